"""Time and memory of Grad-Match's selections on gradients of ImageNet's shape: 1000 classes, 2048 features.

    python benchmarks/grad_match_scale.py --out results/benchmarks/grad-match-scale.json

The gradients are made up: features of a class lie about its own centre, cut at zero as after a ReLU; the scores are
random with the label's raised. What is measured is size, not what it is good for. Each selection starts from the same
factors; the memory is the peak of the process over what it held before.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from grad_match_memory import measured
from rich.console import Console
from rich.table import Table
from torch import Tensor

from leantrain import Ledger, Run
from leantrain.compare.environment import describe
from leantrain.embed import Gradients
from leantrain.methods.grad_match import GradMatch, GradMatchPB
from leantrain.solvers.gradient_factors import SampleGradients
from leantrain.solvers.omp import omp
from leantrain.utils.atomic_write import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--keep-ratio", type=float, default=0.1)
    parser.add_argument("--whole", type=int, default=100, help="samples chosen from all at once; 0: leave it out")
    parser.add_argument("--note", default="", help="kept in the file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, classes = options.samples, options.classes

    labels = torch.arange(size) % classes
    made = made_up(labels, classes, options.features)
    settings: dict[str, Any] = {"gradients": made, "keep_ratio": options.keep_ratio}
    selectors = {
        "GradMatch": GradMatch(**settings),
        "GradMatch, per class": GradMatch(**settings, per="class"),
        "GradMatchPB": GradMatchPB(**settings),
    }
    searches: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, selector in selectors.items():
        selector.setup(
            Run(size=size, batch_size=options.batch_size, epochs=1, seed=0, ledger=Ledger(size), targets=labels)
        )
        searches[name] = partial(planned, selector, size)
    if options.whole:
        searches[f"{options.whole} of all samples at once"] = partial(whole, made, options.whole)

    result: dict[str, Any] = {
        "samples": size,
        "classes": classes,
        "features": options.features,
        "batch_size": options.batch_size,
        "keep_ratio": options.keep_ratio,
        "seed": 0,
        "bytes_of_all_gradients": size * classes * (options.features + 1) * 4,
        "bytes_of_the_factors": size * (classes + options.features) * 4,
        "searches": {},
        "note": options.note,
        "environment": describe("cpu"),
    }
    for name, search in searches.items():
        found, facts = measured(search)
        result["searches"][name] = facts | found | {"load_average": os.getloadavg()}
        result["peak_rss_mb"] = max(part["peak_rss_mb"] for part in result["searches"].values())
        write_json(options.out, result)  # each may take minutes
    show(result["searches"])


def made_up(labels: Tensor, classes: int, width: int) -> Gradients:
    rng = torch.Generator().manual_seed(0)
    centres, each = torch.randn(classes, width, generator=rng), torch.arange(len(labels))
    features = torch.randn(len(labels), width, generator=rng).add_(centres[labels]).relu_()
    delta = torch.randn(len(labels), classes, generator=rng)
    delta[each, labels] += 8  # of e^8 to the others' 1000 * e^0.5: a probability of about two thirds
    torch.softmax(delta, dim=1, out=delta)
    delta[each, labels] -= 1
    return Gradients(delta, features)


def planned(selector: GradMatch | GradMatchPB, size: int) -> dict[str, Any]:
    plan = selector.plan(0, torch.arange(size))
    return {"selected": len(plan.indices), "settings": selector.settings()} | selector.report()


def whole(made: Gradients, count: int) -> dict[str, Any]:
    solution = omp(SampleGradients(made.delta, made.features), count, regularisation=0.5)
    return {"selected": len(solution.indices), "mean_relative_residual": solution.residual}


def show(searches: dict[str, dict[str, Any]]) -> None:
    table = Table("search", "CPU s", "growth MB", "peak MB", "selected", "relative residual")
    for name, facts in searches.items():
        numbers = [f"{facts[key]:,.1f}" for key in ("cpu_seconds", "peak_growth_mb", "peak_rss_mb")]
        table.add_row(name, *numbers, str(facts["selected"]), f"{facts['mean_relative_residual']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
