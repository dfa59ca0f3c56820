"""Time and memory of Grad-Match's selection, beside the size of the gradients that it never builds.

    python benchmarks/grad_match_memory.py --data parquet:DIR --out results/benchmarks/grad-match-cifar10.json

A residual network with 512 features before its head is trained for some steps, so that its gradients are not those of
random weights. Then the gradient pass and the selections of GradMatch and GradMatchPB run one after the other, each
with the peak of the process's memory over what it held before.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import Ledger, Run, data
from leantrain.compare.environment import describe
from leantrain.embed import gradients
from leantrain.methods.grad_match import GradMatch, GradMatchPB
from leantrain.tasks.image_classification.networks import BasicBlock, ResNet
from leantrain.utils.atomic_write import write_json

MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="digits", help="as for `leantrain compare --data`")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--keep-ratio", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=200, help="of training before")
    parser.add_argument("--limit", type=int, help="use this many training samples only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    images = data.load(options.data, limit=options.limit)
    classes, size = len(images.classes), len(images.targets)
    model = ResNet(BasicBlock, (1, 1, 1), (32, 64, 512), (1, 2, 2), (32, 2), classes, images.channels)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (images.mean, images.std))

    def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model((batch[0] / 255 - mean) / std), batch[1]

    loader = DataLoader(images.train, batch_size=128, shuffle=True, generator=torch.Generator().manual_seed(0))
    train(model, loader, forward, options.steps)

    result: dict[str, Any] = {
        "data": images.name,
        "samples": size,
        "classes": classes,
        "features": model.fc.in_features,
        "batch_size": loader.batch_size,
        "training_steps": options.steps,
        "keep_ratio": options.keep_ratio,
        "bytes_of_all_gradients": size * classes * (model.fc.in_features + 1) * 4,
        "bytes_of_all_batch_gradients": len(loader) * classes * (model.fc.in_features + 1) * 4,
        "bytes_of_the_factors": size * (classes + model.fc.in_features) * 4,
        "gradient_pass": {},
    }
    made, result["gradient_pass"] = measured(gradients(model, loader, forward=forward, batch_size=256))
    result["mean_probability_of_the_label"] = 1 + float(made.delta.gather(1, images.targets.unsqueeze(1)).mean())
    selectors = {
        "GradMatch": GradMatch(gradients=made, keep_ratio=options.keep_ratio),
        "GradMatch, per class": GradMatch(gradients=made, keep_ratio=options.keep_ratio, per="class"),
        "GradMatchPB": GradMatchPB(gradients=made, keep_ratio=options.keep_ratio),
    }
    result["selection"] = {}
    for name, selector in selectors.items():
        selector.setup(Run(size=size, batch_size=128, epochs=1, seed=0, ledger=Ledger(size), targets=images.targets))
        plan, facts = measured(lambda selector=selector: selector.plan(0, torch.arange(size)))
        assert plan.weights is not None
        facts |= {"selected": len(plan.indices), "largest_weight": float(plan.weights.max())}
        result["selection"][name] = facts | {"settings": selector.settings()} | selector.report()
    result["peak_rss_mb"] = max(
        part["peak_rss_mb"] for part in [result["gradient_pass"], *result["selection"].values()]
    )
    result["environment"] = describe("cpu")
    write_json(options.out, result)
    print(json.dumps(result, indent=1))


def train(model: nn.Module, loader: DataLoader[Any], forward: Callable[..., tuple[Tensor, Tensor]], steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    done = 0
    while done < steps:
        for batch in loader:
            outputs, targets = forward(model, batch)
            optimizer.zero_grad()
            F.cross_entropy(outputs, targets).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What ``work`` gives, its seconds, and the peak of the process's memory during it over what it held before."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc: memory that is free must not count as held before
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    fresh = reset_peak()
    before, start, start_cpu = resident(), time.perf_counter(), time.process_time()
    made = work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    return made, {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,  # less than seconds where other work shares the core
        "rss_before_mb": before,
        "peak_rss_mb": peak,
        "peak_growth_mb": peak - before,
        "peak_is_of_this_step_only": fresh,
    }


def reset_peak() -> bool:
    """Have Linux forget the peak so far; False where it does not, and peaks are those of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB < resident() + 50


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


if __name__ == "__main__":
    main()
