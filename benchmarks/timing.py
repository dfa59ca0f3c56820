"""Both sides of a comparison timed in one run, in turns, so that whatever else the machine does hits both alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from leantrain.compare.environment import describe
from leantrain.utils.atomic_write import write_json


def alternate(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    calls: int = 1,
    before: Callable[[], object] = lambda: None,
    few: Mapping[str, int] | None = None,
    warm: bool = True,
) -> dict[str, dict[str, Any]]:
    """Seconds of a call of each of ``sides``, all timed once a round, every round another one first; see ``summary``.

    Args:
        calls: made in a row at each timing, whose mean counts.
        before: called before each timing, not timed itself.
        few: of slow sides, in how many rounds they are called.
        warm: whether a round that does not count goes before.
    """
    limits = {name: (few or {}).get(name, rounds) for name in sides}
    names, seconds = list(sides), {name: list[tuple[float, float]]() for name in sides}
    for number in range(-1 if warm else 0, rounds):
        first = max(number, 0) % len(names)
        for name in names[first:] + names[:first]:
            work = sides[name]
            if number >= limits[name]:
                continue
            before()
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(calls):
                work()
            spent = time.perf_counter() - start, time.process_time() - start_cpu
            if number >= 0:
                seconds[name].append((spent[0] / calls, spent[1] / calls))
    return {name: summary(values) for name, values in seconds.items()}


def summary(seconds: list[tuple[float, float]]) -> dict[str, Any]:
    """Median and spread (10th to 90th percentile; all of fewer than ten) of seconds, and of seconds of the CPU.

    The latter leave out the time in which other work had the core, and count twice what ran on two.
    """
    facts: dict[str, Any] = {"runs": len(seconds)}
    for name, values in zip(("", "cpu_"), zip(*seconds, strict=True), strict=True):
        ordered = sorted(values)
        cut = len(ordered) // 10
        facts[f"{name}median_s"] = statistics.median(ordered)
        facts[f"{name}spread_s"] = [ordered[cut], ordered[-1 - cut]]
    return facts


def report(title: str, sides: Mapping[str, Mapping[str, Any]], ours: str) -> None:
    """Print the times as a table, with how many times as many CPU seconds each takes as ``ours``."""
    table = Table("side", "median", "of the CPU", "its spread", "runs", "times ours", title=title)
    for name, facts in sides.items():
        spread = " to ".join(map(_readable, facts["cpu_spread_s"]))
        times = f"{ratio(sides, name, ours):.3g}"
        median, cpu = _readable(facts["median_s"]), _readable(facts["cpu_median_s"])
        table.add_row(name, median, cpu, spread, str(facts["runs"]), times)
    Console(width=120).print(table)


def ratio(sides: Mapping[str, Mapping[str, Any]], name: str, ours: str) -> float:
    """How many times as many CPU seconds ``name`` takes as ``ours``."""
    return sides[name]["cpu_median_s"] / sides[ours]["cpu_median_s"]


def finish(out: Path, result: dict[str, Any]) -> None:
    """Write the figures and what machine they are of."""
    write_json(out, result | {"environment": describe("cpu")})


def _readable(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
