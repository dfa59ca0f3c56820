"""Planning and recording without a model: seconds an epoch and memory over a long training, and plans of a huge set.

    python benchmarks/planning.py --out results/benchmarks/planning.json

Each method runs in a process of its own. Losses are made up: a sample's falls from epoch to epoch, at a pace and with a
noise of its own. An epoch is what a training would ask of leantrain but for loading: the plan, the ledger's record of
every batch, scores of the samples to refresh, the end of the epoch, and the epoch's file of a recording. Making the
losses is not timed. What the process holds is told twice: the memory in use, by glibc's own count, and the resident
memory, which also has what was freed and not given back.

On the huge set, three plans a method and no record; a method that needs features gets them with four numbers a sample.
"""

import argparse
import ctypes
import gc
import json
import math
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import RandomSampler

from leantrain import (
    EL2N,
    IDS,
    IES,
    ISWR,
    RPC,
    RPD,
    RS2,
    Forget,
    InfoBatch,
    Kakurenbo,
    Ledger,
    OrderDP,
    RandomPB,
    Record,
    Run,
    Selector,
    SeTa,
)
from leantrain.compare.environment import describe
from leantrain.utils.atomic_write import write_json
from leantrain.utils.memory import available

SEED, BATCH = 0, 1024
ROOM = 120  # bytes a sample that a process of huge plans may need at its peak
METHODS: dict[str, Callable[[int, int], Selector]] = {  # of the number of samples and of features
    "kakurenbo": lambda size, width: Kakurenbo(),
    "infobatch": lambda size, width: InfoBatch(),
    "ids": lambda size, width: IDS(features=embedding(size, width)),
    "orderdp": lambda size, width: OrderDP(),
    "seta": lambda size, width: SeTa(),
    "ies": lambda size, width: IES(),
    "iswr": lambda size, width: ISWR(unbiased=True),
    "rs2": lambda size, width: RS2(),
    "rpd": lambda size, width: RPD(),
    "rpc": lambda size, width: RPC(),
    "random-pb": lambda size, width: RandomPB(),
    "forget": lambda size, width: Forget(events=torch.arange(size).float() % 20),
    "el2n": lambda size, width: EL2N(scores=torch.rand(size, generator=rng(3))),
}
HUGE = [name for name in METHODS if name not in ("forget", "ies")]  # as el2n; its losses of five epochs take 2 GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--samples", type=int, default=1_281_167)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--methods", default="kakurenbo,infobatch,ids", help="of the long training")
    parser.add_argument("--huge", type=int, default=100_000_000, help="samples of the huge set; 0 leaves it out")
    parser.add_argument("--parts", default="plans,training,huge_plans", help="the others stay as --out has them")
    options = parser.parse_args()
    parts = options.parts.split(",")

    result: dict[str, Any] = {
        **{name: value for name, value in vars(options).items() if name not in ("out", "methods", "parts")},
        "seed": SEED,
        "batch_size": BATCH,
        "ledger_bytes_a_sample": ledger_bytes(),
        "training": {},
        "plans": {},
        "huge_plans": {},
    }
    if options.out.exists():
        found = json.loads(options.out.read_text())
        result |= {part: found[part] for part in ("training", "plans", "huge_plans") if part not in parts}

    def keep(part: str, name: str, work: Callable[..., Any], *given: Any) -> None:
        if part == "huge_plans" and (available() or math.inf) < ROOM * options.huge:
            print(f"{name}: left out, since less than {ROOM} bytes a sample are available")
            return
        result[part][name] = apart(work, name, *given)
        result["environment"] = describe("cpu") | {"threads": 1}
        write_json(options.out, result)
        print(part, name, result[part][name], flush=True)

    result["order_of_the_loader"] = apart(order, options.samples)
    for name in METHODS if "plans" in parts else ():
        keep("plans", name, plans, options.samples, options.features, options.classes, 10)
    for name in options.methods.split(",") if "training" in parts else ():
        keep("training", name, training, options.samples, options.features, options.classes, options.epochs)
    for name in HUGE if options.huge and "huge_plans" in parts else ():
        keep("huge_plans", name, plans, options.huge, 4, options.classes, 3)
    show(result)


def training(name: str, size: int, width: int, classes: int, epochs: int) -> dict[str, Any]:
    """Planning and recording over ``epochs`` epochs."""
    losses = Losses(size)
    ledger = Ledger(size)
    seconds: dict[str, list[Tensor]] = {"plan": [], "ledger": [], "file": []}
    resident_mb, in_use_mb, planned = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        inner = METHODS[name](size, width)
        selector = Record(inner, folder)
        selector.setup(run_of(size, classes, epochs, ledger))
        for epoch in range(epochs):
            made = losses.at(epoch)
            start = clocks()
            plan = selector.plan(epoch, torch.arange(size))
            seconds["plan"].append(since(start))
            planned += len(plan.indices)
            shuffled = plan.indices[torch.randperm(len(plan.indices), generator=rng(epoch))]
            start = clocks()
            for indices in shuffled.split(BATCH):
                ledger.record_training(epoch, indices, *made(indices))
            for indices in () if plan.refresh is None else plan.refresh.split(BATCH):
                ledger.record_scores(epoch, indices, *made(indices))
            seconds["ledger"].append(since(start))
            start = clocks()
            selector.end_epoch(epoch)
            seconds["file"].append(since(start))
            del plan, made, shuffled
            resident_mb.append(resident())
            in_use_mb.append(in_use())
        written = sum(path.stat().st_size for path in Path(folder).iterdir())
    marks = [number for number in (10, 60, 100, 150, 200, epochs) if number <= epochs]
    return {
        "epoch": both([sum(parts) for parts in zip(*seconds.values(), strict=True)]),  # pyright: ignore[reportArgumentType]
        **{part: both(values) for part, values in seconds.items()},
        "planned_share": planned / (size * epochs),
        "in_use_mb_after_epoch": {str(number): in_use_mb[number - 1] for number in marks},
        "resident_mb_after_epoch": {str(number): round(resident_mb[number - 1], 1) for number in marks},
        "resident_mb_highest": round(max(resident_mb), 1),
        "recording_bytes_a_sample_and_epoch": written / (size * epochs),
    }


def plans(name: str, size: int, width: int, classes: int, count: int) -> dict[str, Any]:
    """Seconds of ``count`` plans, each after losses of another epoch, and the peak of the process's memory."""
    ledger, losses = Ledger(size), Losses(size)
    start = time.perf_counter()
    selector = METHODS[name](size, width)
    selector.setup(run_of(size, classes, 200, ledger))
    setup = time.perf_counter() - start
    seconds = []
    for epoch in range(1, count + 1):
        made = losses.at(epoch)
        for first in range(0, size, 2**20):
            indices = torch.arange(first, min(first + 2**20, size))
            ledger.record_training(epoch - 1, indices, *made(indices))
        selector.end_epoch(epoch - 1)
        start = clocks()
        selector.plan(epoch, torch.arange(size))
        seconds.append(since(start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "setup_seconds": setup,
        "plan": both(seconds),
        "peak_gb": peak / 1e9,
    }


def order(size: int) -> dict[str, Any]:
    """What a loader adds to a plan: the user's sampler as a tensor, and what the plan keeps of it."""
    seconds: dict[str, list[Tensor]] = {"sampler": [], "tensor": [], "kept": []}
    kept = torch.randperm(size, generator=rng(0))[: size // 2]
    for number in range(7):
        start = clocks()
        found = list(RandomSampler(range(size), generator=rng(number)))
        seconds["sampler"].append(since(start))
        start = clocks()
        made = torch.tensor(found, dtype=torch.int64)
        seconds["tensor"].append(since(start))
        start = clocks()
        made[torch.bincount(kept, minlength=size)[made] > 0]
        seconds["kept"].append(since(start))
    return {name: both(values) for name, values in seconds.items()}


class Losses:
    """Made-up losses, predictions and confidences of ``size`` samples."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.hardness = torch.rand(size, generator=rng(1))

    def at(self, epoch: int) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
        """(losses, correct, confidence) of any samples in ``epoch``."""
        table = torch.rand(self.size, generator=rng(1000 + epoch))
        table.mul_(0.5).add_(6.5).mul_(torch.exp(-epoch / (5 + 95 * self.hardness)))

        def of(indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            losses = table[indices]
            confidence = torch.exp(-losses)
            return losses, confidence > 0.4, confidence

        return of


def run_of(size: int, classes: int, epochs: int, ledger: Ledger) -> Run:
    labels = torch.randint(classes, (size,), generator=rng(2))
    return Run(size=size, batch_size=BATCH, epochs=epochs, seed=SEED, ledger=ledger, targets=labels)


def embedding(size: int, width: int) -> Tensor:
    return torch.randn(size, width, generator=rng(4))


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ledger_bytes() -> float:
    ledger = Ledger(1000)
    return sum(value.nbytes for value in vars(ledger).values() if isinstance(value, Tensor)) / 1000


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcd", "mapped", *"fg", "used", *"ij")]


def in_use() -> float | None:
    """MB that malloc has given out and not got back; None where the C library does not count it."""
    try:
        count = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return None
    count.restype = _Mallinfo
    found = count()
    return round((found.mapped + found.used) / 1e6, 2)


def resident() -> float:
    """Memory of this process in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def clocks() -> Tensor:
    return torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)


def since(start: Tensor) -> Tensor:
    """(2,) seconds by the clock and of the processor; the latter are fewer where other work shares the core."""
    return clocks() - start


def both(times: list[Tensor]) -> dict[str, Any]:
    clock, cpu = torch.stack(times).T.tolist()
    return {"seconds": spread(clock), "cpu_seconds": spread(cpu)}


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    of = lambda share: ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]  # noqa: E731
    return {
        "median": statistics.median(ordered),
        "low": ordered[0],
        "p90": of(0.9),
        "high": ordered[-1],
        "count": len(ordered),
    }


def apart(work: Callable[..., Any], *given: Any) -> Any:
    """What ``work`` gives, done in a process of its own, with one thread."""
    with multiprocessing.get_context("spawn").Pool(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.apply(work, given)


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(
        title=f"CPU seconds of a plan: median (highest), {result['samples']:,} and {result['huge']:,} samples"
    )
    for column in ("method", "plan", "peak GB", "huge plan", "huge peak GB"):
        table.add_column(column)
    for name, facts in result["plans"].items():
        cells = []
        for part in (facts, result["huge_plans"].get(name)):
            cells += ["", ""] if part is None else [_cpu(part["plan"]), f"{part['peak_gb']:.1f}"]
        table.add_row(name, *cells)
    console.print(table)
    table = Table(title=f"{result['epochs']} epochs over {result['samples']:,} samples: CPU seconds, memory")
    for column in ("method", "epoch", "plan", "ledger", "file", "MB in use after epoch"):
        table.add_column(column)
    for name, facts in result["training"].items():
        memory = ", ".join(f"{epoch}: {mb}" for epoch, mb in facts["in_use_mb_after_epoch"].items())
        table.add_row(name, *[_cpu(facts[part]) for part in ("epoch", "plan", "ledger", "file")], memory)
    console.print(table)


def _cpu(facts: dict[str, Any]) -> str:
    return "{median:.3f} ({high:.3f})".format(**facts["cpu_seconds"])


if __name__ == "__main__":
    main()
