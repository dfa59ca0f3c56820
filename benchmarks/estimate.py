"""What ``leantrain estimate`` predicts for six methods, beside the boosts that real trainings of the same then show.

    python benchmarks/estimate.py --data parquet:DIR --out results/benchmarks/estimate.json

First the estimate, then each method is trained in full, as ``leantrain compare`` does it but without controls and
tests. Both boosts are ratios of modelled times: counts times median costs a sample, where the real runs have counts and
medians of their own (``compare.summary``). Wall clocks and CPU seconds of the real runs stand beside: other work on the
machine moves the one, and the other leaves it out.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from timing import finish

from leantrain import data
from leantrain.compare import CompareConfig
from leantrain.compare.costs import modelled_seconds, pooled_costs
from leantrain.compare.estimate import estimate
from leantrain.train.trainer import train

METHODS = ("infobatch", "kakurenbo", "rs2", "sb", "adonis", "ids")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="digits", help="as for `leantrain compare --data`")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--model", default="tiny-resnet")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the estimate")
    parser.add_argument("--note", default="", help="kept with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = CompareConfig(
        data=options.data,
        limit=options.limit,
        model=options.model,
        epochs=options.epochs,
        methods=("full", *METHODS),
        device="cpu",
        settings={"adonis": {"alpha": 1.0, "keep_ratio": 0.5, "sigma": 1.0, "rule": "sqrt", "stale_epochs": 1}},
    )
    images = data.load(config.data, limit=config.limit)
    start, start_cpu = time.perf_counter(), time.process_time()
    found = estimate(config, images, options.seconds)
    taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
    print(found)

    runs = [real_run(config, images, method) for method in ("full", *METHODS)]
    costs = pooled_costs(runs)
    full, full_modelled = runs[0], modelled_seconds(runs[0], costs)
    whole = len(images.targets) * config.epochs
    rows: dict[str, Any] = {}
    for run in runs[1:]:
        method, modelled = run["method"], modelled_seconds(run, costs)
        predicted = next(row for row in found.forecasts if row.method == method)
        measured = full_modelled / modelled
        rows[method] = {
            "predicted_boost": predicted.boost,
            "measured_boost": measured,
            "predicted_over_measured": predicted.boost / measured,
            "predicted_boost_with_preprocessing": predicted.boost_with_preprocessing,
            "measured_boost_with_preprocessing": full_modelled / (modelled + run["preprocess_seconds"]),
            "measured_boost_by_clock": full["train_seconds"] / run["train_seconds"],
            "measured_boost_by_cpu_with_preprocessing": full["cpu_seconds"] / run["cpu_seconds"],
            "predicted_bound": predicted.bound,
            "predicted_counts_are_exact": predicted.exact,
            "trained": {"predicted": predicted.trained, "measured": run["backward_samples"] / whole},
            "scored": {"predicted": predicted.scored, "measured": run["scored_samples"] / whole},
            "loaded": {"predicted": predicted.loaded, "measured": share_loaded(run) / whole},
        }
    off = {name: abs(row["predicted_over_measured"] - 1) for name, row in rows.items()}
    table = Table("method", "predicted", "measured", "ratio", "with pre-processing", title="boost over full training")
    for name, row in rows.items():
        both = (row[f"{who}_boost_with_preprocessing"] for who in ("predicted", "measured"))
        boosts = (f"{row[f'{who}_boost']:.3f}" for who in ("predicted", "measured"))
        table.add_row(name, *boosts, f"{row['predicted_over_measured']:.3f}", " / ".join(f"{b:.3f}" for b in both))
    Console(width=120).print(table)
    print(f"Off by {max(off.values()):.1%} at most, {statistics.median(off.values()):.1%} in the median.")
    finish(
        options.out,
        {
            "config": config.model_dump(mode="json", exclude={"data"}) | {"data": images.name},
            "seed": config.seeds[0],
            "note": options.note,
            "samples": len(images.targets),
            "estimate": taken
            | {"asked_seconds": options.seconds, "rehearsed": found.rehearsed, "simulated": found.simulated},
            "costs": {"predicted": vars(found.costs) | {"step": found.costs.step}, "measured": costs},
            "methods": rows,
            "largest_error": max(off.values()),
            "median_error": statistics.median(off.values()),
        },
    )


def real_run(config: CompareConfig, images: data.ImageData, method: str) -> dict[str, Any]:
    """The facts of a training with ``method``, and the CPU seconds that all of it took."""
    start = time.process_time()
    result = train(config, images, method, config.seeds[0], evaluate=False)
    print(f"{method}: {result.facts['train_seconds']:.0f} s")
    return result.facts | {"method": method, "cpu_seconds": time.process_time() - start}


def share_loaded(run: dict[str, Any]) -> int:
    """Samples that the training loop read: passes aside, of embeddings, are not among what is predicted."""
    return run["loaded_samples"] - run["aside"]["forward"]


if __name__ == "__main__":
    main()
