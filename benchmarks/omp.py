"""Orthogonal matching pursuit on the gradients of one class against the solver of CORDS, Grad-Match's authors' code.

    python benchmarks/omp.py --data parquet:DIR --peer CHECKOUT --out results/benchmarks/omp.json

CHECKOUT is a clone of https://github.com/decile-team/cords; without one our side alone is measured. Each side gets what
it would have in a training: ours the factors, the peer the dense gradients. Both search with the same lambda and
tolerance; what they leave is worked out anew, in float64, from the dense gradients. As ours leaves far less, a second
line stops it by ``tolerance`` where the peer ended: the time to a residual that is not worse, with fewer samples. Runs
alternate. Where other work shares the cores, read the CPU seconds.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grad_match_memory import train
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from leantrain import data
from leantrain.compare.environment import describe
from leantrain.embed import gradients
from leantrain.solvers.gradient_factors import SampleGradients
from leantrain.solvers.omp import omp
from leantrain.tasks.image_classification.networks import BasicBlock, ResNet
from leantrain.utils.atomic_write import write_json

SOLVERS = "cords/selectionstrategies/helpers/omp_solvers.py"
PEER = "OrthogonalMP_REG_Parallel_V1"
LAMBDA, TOLERANCE = 0.5, 1e-4
STOPPED = "leantrain_until_cords_residual"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="digits", help="as for `leantrain compare --data`")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--peer", type=Path, help="a checkout of CORDS")
    parser.add_argument("--label", type=int, default=0, help="the class")
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 1500])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of training before")
    parser.add_argument("--note", default="", help="kept in the file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console = Console()

    delta, features = factors(options.data, options.label, options.steps)
    dense = torch.cat([delta, delta * features], dim=1)
    solve = peer(options.peer)
    if solve is None:
        console.print(f"No {SOLVERS} under --peer {options.peer}: our side alone is measured.")
    rows: list[dict[str, Any]] = []
    for count in options.counts:
        sides: dict[str, Callable[[], Tensor]] = {"leantrain": partial(ours, delta, features, count)}
        if solve is not None:
            limits = {"tol": TOLERANCE, "nnz": count, "positive": True, "lam": LAMBDA}
            sides["cords"] = partial(solve, dense.T, dense.sum(dim=0), **limits)
        ours(delta, features, min(count, 20))  # warm
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(options.repeats):
            for name, side in sides.items():
                runs[name].append(timed(side, dense))
            if "cords" in runs:
                stopped = partial(ours, delta, features, count, runs["cords"][0]["relative_residual"])
                runs.setdefault(STOPPED, []).append(timed(stopped, dense))
        row: dict[str, Any] = {"count": count} | {name: summary(each) for name, each in runs.items()}
        if "cords" in runs:
            for key, name in (("times_faster", "leantrain"), ("times_faster_to_cords_residual", STOPPED)):
                pairs = zip(runs["cords"], runs[name], strict=True)
                row[key] = spread([theirs["cpu_seconds"] / own["cpu_seconds"] for theirs, own in pairs])
        rows.append(row)
        show(console, rows)
    result = {
        "data": f"{Path(options.data).name}, class {options.label}",
        "gradients": list(dense.shape),
        "training_steps": options.steps,
        "regularisation": LAMBDA,
        "tolerance": TOLERANCE,
        "seed": 0,
        "peer": PEER,
        "load_average": os.getloadavg(),
        "searches": rows,
        "note": options.note,
        "environment": describe("cpu"),
    }
    write_json(options.out, result)


def factors(source: str, label: int, steps: int) -> tuple[Tensor, Tensor]:
    """(n, 1) delta of the score of class ``label`` and (n, 512) features, of the n samples of that class."""
    images = data.load(source)
    model = ResNet(BasicBlock, (1, 1, 1), (32, 64, 512), (1, 2, 2), (32, 2), len(images.classes), images.channels)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))

    def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model((batch[0] / 255 - mean) / std), batch[1]

    loader = DataLoader(images.train, batch_size=128, shuffle=True, generator=torch.Generator().manual_seed(0))
    train(model, loader, forward, steps)
    members = (images.targets == label).nonzero().flatten().tolist()
    made = gradients(model, DataLoader(Subset(images.train, members), batch_size=256), forward=forward)()
    return made.delta[:, [label]].contiguous(), made.features


def peer(checkout: Path | None) -> Callable[..., Tensor] | None:
    path = None if checkout is None else checkout / SOLVERS
    spec = None if path is None or not path.is_file() else importlib.util.spec_from_file_location("omp_solvers", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    with np.errstate():  # importing it sets numpy's error handling
        spec.loader.exec_module(module)
    return getattr(module, PEER)


def ours(delta: Tensor, features: Tensor, count: int, tolerance: float = TOLERANCE) -> Tensor:
    solution = omp(SampleGradients(delta, features), count, regularisation=LAMBDA, tolerance=tolerance)
    return torch.zeros(len(delta), dtype=torch.float64).index_copy_(0, solution.indices, solution.weights)


def timed(work: Callable[[], Tensor], dense: Tensor) -> dict[str, float]:
    start, start_cpu = time.perf_counter(), time.process_time()
    weights = work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    weights, target = weights.double(), dense.double().sum(dim=0)
    missing = float((weights @ dense.double() - target).norm())
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "selected": int((weights > 0).sum()),
        "relative_residual": missing / float(target.norm()),
        "objective": missing**2 + LAMBDA * float(weights.square().sum()),
    }


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    times = {name: spread([run[name] for run in runs]) for name in ("seconds", "cpu_seconds")}
    return runs[0] | times


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values)}


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table("k", "side", "CPU s, median (least to most)", "chosen", "relative residual", "objective", "faster")
    for row in rows:
        ratios = {"leantrain": "times_faster", STOPPED: "times_faster_to_cords_residual"}
        for name in ("leantrain", STOPPED, "cords"):
            if name in row:
                one, cpu = row[name], row[name]["cpu_seconds"]
                faster = f"{row[ratios[name]]['median']:.1f}×" if ratios.get(name) in row else ""
                table.add_row(
                    str(row["count"]),
                    name.replace("_", " "),
                    f"{cpu['median']:.3f} ({cpu['least']:.3f} to {cpu['most']:.3f})",
                    str(one["selected"]),
                    f"{one['relative_residual']:.2e}",
                    f"{one['objective']:.4g}",
                    faster,
                )
    console.print(table)


if __name__ == "__main__":
    main()
