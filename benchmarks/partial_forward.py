"""Time of a training step that scores from a cut in the network, beside scoring with the whole network first.

    python benchmarks/partial_forward.py --out results/benchmarks/partial-forward.json

Each round takes every way once, in turn, over the same original batch: choice, forward, backward and the optimizer's
step. Times are CPU seconds of this process, of one thread: other work on the machine then counts little. Then, on the
digits, how the head's losses rank the samples beside those of a scoring pass with the whole network at that moment.
"""

import argparse
import contextlib
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
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from leantrain import SB, ComposerSB, PartialForward, data, scorer
from leantrain.compare.environment import describe
from leantrain.methods.composer_sb import draw
from leantrain.tasks.image_classification.models import build
from leantrain.utils.atomic_write import write_json

MODELS = {"tiny-resnet": ("blocks.0", 128), "resnet18-32": ("blocks.3", 64), "mobilenetv2-32": ("features.9", 64)}
BASE = "score, then train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--keep", default="0.25,0.5")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)

    found: list[dict[str, Any]] = []
    for name in options.models.split(","):
        for keep in map(float, options.keep.split(",")):
            found.append(measure(name, keep, options.rounds))
            show(found[-1])
    ranks = {batch_norm: rank_correlation(batch_norm) for batch_norm in ("kept", "all")}
    Console().print("Spearman correlation of the head's and the network's losses, digits, epochs from 1:", ranks)
    write_json(
        options.out,
        {
            "rounds": options.rounds,
            "seed": 0,
            "steps": found,
            "digits_rank_correlation_by_epoch": ranks,
            "environment": describe("cpu"),
        },
    )


def measure(name: str, keep: float, rounds: int) -> dict[str, Any]:
    cut, size = MODELS[name]
    rng = torch.Generator().manual_seed(0)
    batch = torch.randn(size, 3, 32, 32, generator=rng), torch.randint(10, (size,), generator=rng)
    model = build(name, classes=10).train()
    ways = {
        "full training": full(copy.deepcopy(model), batch),
        BASE: apart(copy.deepcopy(model), batch, keep),
        "partial, batch_norm all": cut_at(copy.deepcopy(model), batch, cut, keep, "all"),
        "partial, batch_norm kept": cut_at(copy.deepcopy(model), batch, cut, keep, "kept"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for step in ways.values():
        step()
    for _ in range(rounds):
        for way, step in ways.items():
            start = time.process_time()
            step()
            seconds[way].append((time.process_time() - start) / size)
    ratios = {way: [base / own for base, own in zip(seconds[BASE], seconds[way], strict=True)] for way in ways}
    return {
        "model": name,
        "cut": cut,
        "share_before_the_cut": flops(model, batch[0], cut) / flops(model, batch[0], None),
        "kept": keep,
        "batch_size": size,
        "ways": {
            way: {
                "cpu_seconds_a_sample": statistics.median(seconds[way]),
                "range": [min(seconds[way]), max(seconds[way])],
                "times_faster": statistics.median(ratios[way]),
                "times_faster_range": [min(ratios[way]), max(ratios[way])],
            }
            for way in ways
        },
    }


def full(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    return stepping(model, lambda: F.cross_entropy(model(batch[0]), batch[1]))


def apart(model: nn.Module, batch: tuple[Tensor, Tensor], keep: float) -> Callable[[], None]:
    score, rng = scorer(model, F.cross_entropy), torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        kept = draw(score(batch).losses, keep, rng)
        return F.cross_entropy(model(batch[0][kept]), batch[1][kept])

    return stepping(model, loss)


def cut_at(
    model: nn.Module, batch: tuple[Tensor, Tensor], cut: str, keep: float, batch_norm: Any
) -> Callable[[], None]:
    selector = ComposerSB(start=0.0, end=1.0, keep=keep, interrupt=0)  # keeps exactly this share
    partial = PartialForward(model, F.cross_entropy, cut=cut, selector=selector, batch_norm=batch_norm, epochs=1)
    partial(*batch, epoch=0)  # makes the head
    return stepping(model, lambda: partial(*batch, epoch=0))


def stepping(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class Stop(Exception):
    pass


def flops(model: nn.Module, images: Tensor, cut: str | None) -> int:
    """Of a forward pass, or of its part up to ``cut``."""

    def stop(*_: Any) -> None:
        raise Stop

    handle = model.get_submodule(cut).register_forward_hook(stop) if cut else None
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, contextlib.suppress(Stop):
        model(images)
    if handle:
        handle.remove()
    return counter.get_total_flops()


def rank_correlation(batch_norm: Any, epochs: int = 6) -> list[float]:
    """Of each epoch after the first; the model is cut behind the first of its three stages."""
    digits = data.load("digits")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (digits.mean, digits.std))
    model = build("small", classes=10, channels=digits.channels).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    method = SB(beta=1.0, start_epoch=1)
    partial = PartialForward(model, F.cross_entropy, cut="blocks.0", selector=method, batch_norm=batch_norm)
    score, loader = (
        scorer(model, F.cross_entropy),
        DataLoader(digits.train, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0)),
    )
    found = []
    for epoch in range(epochs):
        guesses, losses = [], []
        for images, labels in loader:
            images = (images / 255 - mean) / std
            losses.append(score((images, labels)).losses)
            loss = partial(images, labels, epoch=epoch)
            if partial.predicted is not None and epoch:
                guesses.append(partial.predicted)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if epoch:
            pair = [torch.cat(values).argsort().argsort().double() for values in (guesses, losses)]
            found.append(round(float(torch.corrcoef(torch.stack(pair))[0, 1]), 3))
    return found


def show(found: dict[str, Any]) -> None:
    title = f"{found['model']}, cut at {found['cut']} (s = {found['share_before_the_cut']:.2f}), {found['kept']} kept"
    table = Table(title=title)
    for column in ("way", "ms a sample", "times faster", "range"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, facts in found["ways"].items():
        low, high = facts["times_faster_range"]
        milliseconds = f"{1000 * facts['cpu_seconds_a_sample']:.3f}"
        table.add_row(way, milliseconds, f"{facts['times_faster']:.2f}×", f"{low:.2f}-{high:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
