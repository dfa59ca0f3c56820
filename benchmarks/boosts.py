"""How much faster each method trains, beside what its own counts promise, and the share of it that goes into deciding.

    python benchmarks/boosts.py --data parquet:DIR --limit 2000 --out results/benchmarks/boosts.json

A backward pass takes twice as long as a forward pass, so a method that makes f forward and b backward passes for each
one of full training promises a boost of 3 / (f + 2 b). Pre-processing is left out of both; the gradient passes of
Grad-Match count among the forward passes, and not as deciding. Libraries are loaded before: SSP's scikit-learn takes a
second. Every few methods full training runs again; a method is held against the two such runs around it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import finish

from leantrain import data
from leantrain.core.inputs import Input
from leantrain.data import ImageData
from leantrain.methods import METHODS
from leantrain.solvers.prototypes import need_kmeans
from leantrain.train.config import TrainConfig
from leantrain.train.method_inputs import Made, build
from leantrain.train.session import Session

PROBES = {"forget": {"probe_epochs": 1}, "el2n": {"probe_epochs": 1}, "rho-loss": {"holdout_epochs": 1}}
BETWEEN = 4  # methods between two runs of full training


@dataclass
class Spent:
    """Seconds and samples of passes that a method has made aside of the training loop."""

    clock: float = 0.0
    cpu: float = 0.0
    forward: int = 0

    def of(self, make: Callable[..., Any], session: Session) -> Callable[..., Any]:
        """``make``, with what it takes added here."""

        def measured(*given: Any) -> Any:
            clock, cpu, forward = time.perf_counter(), time.process_time(), session.clock.forward
            made = make(*given)
            self.clock += time.perf_counter() - clock
            self.cpu += time.process_time() - cpu
            self.forward += session.clock.forward - forward
            return made

        return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True, help="as for `leantrain compare --data`")
    parser.add_argument("--limit", type=int, help="use this many training samples only")
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1, help="over all methods")
    parser.add_argument("--methods", help="comma-separated; all by default")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--note", default="", help="kept with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    need_kmeans()

    images = data.load(options.data, limit=options.limit)
    config = TrainConfig(
        data=options.data, limit=options.limit, model=options.model, epochs=options.epochs, lr=0.05, settings=PROBES
    )
    names = (
        options.methods.split(",") if options.methods else [name for name in METHODS if name not in ("full", "replay")]
    )
    run(config.model_copy(update={"epochs": 1}), images, "full")  # the first one is slower
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    plain: list[dict[str, Any]] = [run(config, images, "full")]
    for _ in range(options.rounds):
        for start in range(0, len(names), BETWEEN):
            found = {name: run(config, images, name) for name in names[start : start + BETWEEN]}
            plain.append(run(config, images, "full"))
            for name, facts in found.items():
                rounds[name].append(facts | held_against(facts, plain[-2:]))
                print(f"{name}: {rounds[name][-1]['measured_over_modelled']:.2f} of the boost modelled", flush=True)
    result: dict[str, Any] = {
        "data": images.name,
        "samples": len(images.targets),
        "model": options.model,
        "epochs": options.epochs,
        "batch": config.batch_size,
        "seed": 0,
        "rounds": options.rounds,
        "probes": PROBES,
        "note": options.note,
        "targets": {"measured_over_modelled_at_least": 0.9, "decision_share_at_most": 0.01},
        "full": {key: spread([facts[key] for facts in plain]) for key in ("cpu_seconds", "seconds")},
        "methods": {name: {key: spread([f[key] for f in facts]) for key in facts[0]} for name, facts in rounds.items()},
    }
    show(result["methods"])
    finish(options.out, result)


def run(config: TrainConfig, images: ImageData, method: str) -> dict[str, Any]:
    """One training: its seconds without pre-processing, forward and backward passes, and what deciding took."""
    session = Session(config, images, seed=0)
    before, passes = Spent(), Spent()

    def timed(wanted: Input, made: Made) -> Made:
        made.make = (passes if wanted.kind == "gradients" else before).of(made.make, session)
        return made

    selector = build(config, method, session, timed)
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in session.fit(selector, config.epochs):
        pass
    stats, whole = session.loader.stats, len(images.targets) * config.epochs
    seconds = time.perf_counter() - clock - before.clock
    decided = stats.plan_seconds + stats.select_seconds - before.clock - passes.clock
    return {
        "cpu_seconds": time.process_time() - cpu - before.cpu,
        "seconds": seconds,
        "forward": (stats.trained + stats.scored + passes.forward) / whole,
        "backward": stats.trained / whole,
        "decision_seconds": decided,
        "decision_share": decided / seconds,
    }


def held_against(facts: dict[str, Any], plain: list[dict[str, Any]]) -> dict[str, float]:
    """The boost that the counts promise, and those measured against the runs ``plain`` of full training."""
    modelled = 3 / (facts["forward"] + 2 * facts["backward"])
    boost = statistics.median(full["cpu_seconds"] for full in plain) / facts["cpu_seconds"]
    return {
        "modelled_boost": modelled,
        "boost": boost,
        "boost_by_clock": statistics.median(full["seconds"] for full in plain) / facts["seconds"],
        "measured_over_modelled": boost / modelled,
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def show(methods: dict[str, Any]) -> None:
    head = ("method", "forward", "backward", "boost modelled", "measured", "by the clock", "ratio", "deciding")
    table = Table(*head, title="Boosts by seconds of the CPU")
    for name, facts in methods.items():
        middle = {key: value["median"] for key, value in facts.items()}
        keys = ("forward", "backward", "modelled_boost", "boost", "boost_by_clock", "measured_over_modelled")
        table.add_row(name, *(f"{middle[key]:.2f}" for key in keys), f"{middle['decision_share']:.2%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
