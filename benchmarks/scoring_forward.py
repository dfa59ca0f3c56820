"""Time of a scoring pass, per sample, beside the forward pass of a training step.

    python benchmarks/scoring_forward.py --out results/benchmarks/scoring-forward.json

Each round measures every way once, in turn, so that all meet the same machine. Times are CPU seconds of this process,
of one thread: other work on the machine then counts little. A ratio is that of one round; its median and range count.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from leantrain import scorer
from leantrain.compare.environment import describe
from leantrain.tasks.image_classification.models import build
from leantrain.train.session import CHUNK
from leantrain.utils import nested_batch
from leantrain.utils.atomic_write import write_json

BASE = "training forward"
MODELS = {"tiny-resnet": 128, "resnet18-32": 64, "mobilenetv2-32": 64}  # with their batch sizes
JOINED = 4
# An untrained model's losses of noise lie close together, so precision matters more here than in a training.
SAME_IMAGES = [f"score, {way}" for way in ("channels last", "bfloat16", "bfloat16, channels last", "chunks")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="kept with the figures")
    parser.add_argument("--compile", default="", help="models that are also timed compiled, which needs a C++ compiler")
    options = parser.parse_args()
    torch.set_num_threads(1)

    found: dict[str, Any] = {}
    for name in options.models.split(","):
        found[name] = measure(name, options.rounds, name in options.compile.split(","))
        show(name, found[name])
    facts = {
        "note": options.note,
        "targets": {"times_faster": 1.6},
        "rounds": options.rounds,
        "seed": 0,
        "chunk": CHUNK,
    }
    write_json(options.out, facts | {"models": found, "environment": describe("cpu")})


def measure(name: str, rounds: int, compiled: bool) -> dict[str, Any]:
    size = MODELS[name]
    rng = torch.Generator().manual_seed(0)
    batch = torch.randn(size, 3, 32, 32, generator=rng), torch.randint(10, (size,), generator=rng)
    joined = nested_batch.join([batch] * JOINED)
    ways = ways_of(build(name, classes=10).train(), batch, joined, compiled)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for work in ways.values():
        work()  # warms up, compiles
    for _ in range(rounds):
        for way, work in ways.items():
            start = time.process_time()
            work()
            seconds[way].append((time.process_time() - start) / (size * (JOINED if "joined" in way else 1)))
    reference = ways["score"]()  # the training forward moved the statistics of BatchNorm
    ratios = {way: [base / own for base, own in zip(seconds[BASE], seconds[way], strict=True)] for way in ways}
    return {
        "batch_size": size,
        "joined_batches": JOINED,
        "ways": {
            way: {
                "cpu_seconds_a_sample": statistics.median(seconds[way]),
                "range": [min(seconds[way]), max(seconds[way])],
                "times_faster": statistics.median(ratios[way]),
                "times_faster_range": [min(ratios[way]), max(ratios[way])],
            }
            | (deviation(work(), reference) if way in SAME_IMAGES else {})
            for way, work in ways.items()
        },
    }


def ways_of(model: nn.Module, batch: Any, joined: Any, compiled: bool) -> dict[str, Callable[[], Tensor]]:
    """What is timed, by name; each gives the losses."""
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images_last = nested_batch.channels_last(batch)
    plain = scorer(model, F.cross_entropy)
    fast = scorer(model, F.cross_entropy, channels_last=True)
    low = scorer(model, F.cross_entropy, dtype=torch.bfloat16)
    both = scorer(model, F.cross_entropy, dtype=torch.bfloat16, channels_last=True)
    chunks = scorer(model, F.cross_entropy, chunk=CHUNK)
    chunks_last = scorer(model, F.cross_entropy, chunk=CHUNK, channels_last=True)
    all_three = scorer(model, F.cross_entropy, chunk=CHUNK, dtype=torch.bfloat16, channels_last=True)

    def inference() -> Tensor:
        with torch.inference_mode():
            return plain(batch).losses

    ways = {
        BASE: lambda: train(model, batch),
        "training forward, channels last": lambda: train(last, images_last),
        "score": lambda: plain(batch).losses,
        "score, inference mode": inference,
        "score, BatchNorm folded each time": lambda: scorer(folded(model), F.cross_entropy)(batch).losses,
        "score, channels last": lambda: fast(batch).losses,
        "score, bfloat16": lambda: low(batch).losses,
        "score, bfloat16, channels last": lambda: both(batch).losses,
        "score, chunks": lambda: chunks(batch).losses,
        "score, chunks, channels last": lambda: chunks_last(batch).losses,
        "score, chunks, bfloat16, channels last": lambda: all_three(batch).losses,
        "score, joined": lambda: plain(joined).losses,
        "score, joined, chunks": lambda: chunks(joined).losses,
        "score, joined, chunks, channels last": lambda: chunks_last(joined).losses,
        "score, joined, channels last": lambda: fast(joined).losses,
        "score, joined, bfloat16, channels last": lambda: both(joined).losses,
        "score, channels last, scale_factor 0.5": lambda: fast(nested_batch.resize(batch, 0.5)).losses,
    }
    if compiled:
        quick = scorer(torch.compile(model), F.cross_entropy)  # pyright: ignore[reportArgumentType]
        ways["score, compiled"] = lambda: quick(batch).losses
    return ways


def train(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images), labels, reduction="none")


def folded(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose BatchNorms are part of the convolutions before them."""
    model = copy.deepcopy(model).eval()
    for module in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for position in range(len(module) - 1):
            conv, norm = module[position], module[position + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[position], module[position + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model


def deviation(losses: Tensor, reference: Tensor) -> dict[str, float]:
    """How far losses are from those of the plain scoring pass: relative to their spread, and in order."""
    spread = float(reference.std())
    order = torch.corrcoef(torch.stack([losses.argsort().argsort().double(), reference.argsort().argsort().double()]))
    return {
        "largest_error_in_std": float((losses - reference).abs().max()) / spread,
        "rank_correlation": float(order[0, 1]),
    }


def show(name: str, found: dict[str, Any]) -> None:
    table = Table(title=f"{name}, batches of {found['batch_size']}")
    for column in ("way", "ms a sample", "times faster", "range", "rank correlation"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, facts in found["ways"].items():
        low, high = facts["times_faster_range"]
        rank = f"{facts['rank_correlation']:.4f}" if "rank_correlation" in facts else ""
        milliseconds = f"{1000 * facts['cpu_seconds_a_sample']:.3f}"
        table.add_row(way, milliseconds, f"{facts['times_faster']:.2f}×", f"{low:.2f}-{high:.2f}", rank)
    Console().print(table)


if __name__ == "__main__":
    main()
