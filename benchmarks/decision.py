"""Time of one decision, ADONIS's and Selective-Backprop's, beside the per-sample loop of the SB authors' calculator.

    python benchmarks/decision.py --peer SelectiveBackprop --out results/benchmarks/decision.json

Losses of a batch of 128 come in, the positions that are trained on go out; the history is full. The authors' side does
less: it gives the probabilities and tosses no coin yet. Once in a row, once with other work in between. ``--peer`` is a
checkout of angelajiang/SelectiveBackprop; without it the same loop, written here from the paper's formula, stands in.
"""

import argparse
import importlib.util
import sys
import types
from collections import deque
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

import torch
from timing import alternate, finish, ratio, report
from torch import Tensor

from leantrain import Adonis, Batch, Ledger, Run, Selector
from leantrain.methods.selective_backprop import SB, cdf

BATCH, SEED = 128, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="checkout of the SB authors' repository")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--note", default="", help="kept with the figures")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(SEED)
    stream = [torch.empty(BATCH).exponential_(generator=rng) for _ in range(64)]
    calculator, stubs = authors(options.peer) if options.peer else (Loop, [])
    result: dict[str, Any] = {
        "batch": BATCH,
        "seed": SEED,
        "losses": "exponential",
        "peer": "angelajiang/SelectiveBackprop, BatchedRelativeProbabilityCalculator" if options.peer else "own loop",
        "stubbed_imports_of_the_peer": stubs,
        "note": options.note,
        "targets": {"times_faster_than_the_loop": 30, "microseconds_at_most": 100},
    }
    if not options.peer:
        print("No --peer given: the paper's formula, sample by sample, stands in for the authors' calculator.")
    check_same_probabilities(calculator, stream)
    auto = {"theta": "auto", "alpha": 1.0, "keep_ratio": 0.5}
    selectors = {
        "ADONIS, history 512": Adonis.preset("paper"),
        "ADONIS, history 1024": Adonis.preset("paper", history=1024),
        "ADONIS, theta auto, history 512": Adonis.preset("paper", **auto),
        "ADONIS, theta auto, half life, history 512": Adonis.preset("paper", half_life=3, **auto),
        "SB, history 1024": SB(history=1024),
    }
    sides: dict[str, Callable[[], object]] = {name: decision(own, stream) for name, own in selectors.items()}
    sides |= {f"authors' loop, history {size}": loop(calculator, size, stream) for size in (512, 1024)}
    result["in_a_row"] = times = alternate(sides, options.rounds, calls=500)
    for name in selectors:
        other = "authors' loop, history " + name.split()[-1]
        report(f"A batch of {BATCH}", {key: times[key] for key in (name, other)}, name)
        times[name]["times_faster"] = ratio(times, other, name)
    memory = torch.zeros(8_000_000)  # 32 MB: a step of the training between two decisions empties the caches
    result["after_other_work"] = alternate(sides, options.rounds, before=lambda: memory.add_(1))
    report("After other work in between", result["after_other_work"], "SB, history 1024")
    finish(options.out, result)


def decision(selector: Selector, stream: list[Tensor]) -> Callable[[], Tensor]:
    """A call judges the next batch; the history is filled before."""
    selector.setup(Run(size=BATCH, batch_size=BATCH, epochs=10, seed=SEED, ledger=Ledger(BATCH)))
    numbers, losses, indices = count(), cycle(stream), torch.arange(BATCH)

    def judge() -> Tensor:
        return selector.select(Batch(1, next(numbers), indices, next(losses)))

    for _ in range(16):
        judge()
    return judge


def loop(calculator: Callable[..., Any], history: int, stream: list[Tensor]) -> Callable[[], list[float]]:
    """The same for the authors' calculator, which takes a list of examples with one loss each."""
    made = calculator("cpu", 0, history, 2)
    batches = cycle([[example(loss) for loss in losses.tolist()] for losses in stream])
    for _ in range(16):
        made.update_history([item.example.loss for item in next(batches)])
    return lambda: made.get_probability(next(batches))


def example(loss: float) -> types.SimpleNamespace:
    return types.SimpleNamespace(example=types.SimpleNamespace(loss=loss))


def check_same_probabilities(calculator: Callable[..., Any], stream: list[Tensor]) -> None:
    """Both sides answer the same question: ours ** beta must be theirs."""
    made, recent = calculator("cpu", 0, 1024, 2), torch.empty(0)
    for losses in stream:
        recent = torch.cat([recent, losses])[-1024:]
        theirs = torch.tensor(made.get_probability([example(loss) for loss in losses.tolist()]))
        torch.testing.assert_close(cdf(recent, losses) ** 2, theirs)


def authors(place: Path) -> tuple[Callable[..., Any], list[str]]:
    """The authors' calculator, loaded by path; modules that it imports but does not use here are left empty."""
    missing = [name for name in ("scipy", "lib.predictors") if not _importable(name)]
    package = types.ModuleType("lib")
    package.__path__ = []
    sys.modules["lib"] = package
    for name in missing:
        sys.modules[name] = types.ModuleType(name)
        if name == "scipy":
            sys.modules[name].stats = None  # pyright: ignore[reportAttributeAccessIssue]
        else:
            package.predictors = sys.modules[name]  # pyright: ignore[reportAttributeAccessIssue]
    package.hist = _load("lib.hist", place / "lib/hist.py")  # pyright: ignore[reportAttributeAccessIssue]
    return _load("lib.calculators", place / "lib/calculators.py").BatchedRelativeProbabilityCalculator, missing


def _load(name: str, path: Path) -> types.ModuleType:
    if not path.exists():
        raise SystemExit(f"{path} does not exist. --peer takes a checkout of angelajiang/SelectiveBackprop.")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _importable(name: str) -> bool:
    return "." not in name and importlib.util.find_spec(name) is not None


class Loop:
    """P = CDF(loss) ** beta over the last ``history`` losses, counted sample by sample."""

    def __init__(self, device: str, least: float, history: int, beta: float) -> None:
        self.recent, self.least, self.beta = deque(maxlen=history), least, beta

    def update_history(self, losses: list[float]) -> None:
        self.recent.extend(losses)

    def get_probability(self, examples: list[Any]) -> list[float]:
        losses = [item.example.loss for item in examples]
        self.update_history(losses)
        return [
            max(self.least, (sum(past < loss for past in self.recent) / len(self.recent)) ** self.beta)
            for loss in losses
        ]


if __name__ == "__main__":
    main()
