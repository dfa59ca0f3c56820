"""Both sides of a comparison timed in one run, in turns, so that whatever else the machine does hits both alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from leantrain.compare.environment import describe
from leantrain.files import write_json


def alternate(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    calls: int = 1,
    before: Callable[[], object] = lambda: None,
    few: Mapping[str, int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Seconds of a call of each of ``sides``, all timed once a round, after a round to warm up; see ``summary``.

    Args:
        calls: made in a row at each timing, whose mean counts.
        before: called before each timing, not timed itself.
        few: of slow sides, in how many rounds they are called; one of a single round is not warmed up.
    """
    limits = {name: (few or {}).get(name, rounds) for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1, rounds):
        for name, work in sides.items():
            if number >= limits[name] or (number < 0 and limits[name] == 1):
                continue
            before()
            start = time.perf_counter()
            for _ in range(calls):
                work()
            if number >= 0:
                seconds[name].append((time.perf_counter() - start) / calls)
    return {name: summary(values) for name, values in seconds.items()}


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median, fastest, spread (10th to 90th percentile, all of fewer than ten) and number of ``seconds``."""
    ordered = sorted(seconds)
    cut = len(ordered) // 10
    return {
        "median_s": statistics.median(ordered),
        "fastest_s": ordered[0],
        "spread_s": [ordered[cut], ordered[-1 - cut]],
        "runs": len(ordered),
    }


def report(title: str, sides: Mapping[str, Mapping[str, Any]], ours: str) -> None:
    """Print the times as a table, with how many times as long each takes as ``ours``."""
    table = Table("side", "median", "fastest", "spread", "runs", "times ours", title=title)
    for name, facts in sides.items():
        low, high = facts["spread_s"]
        ratio = facts["median_s"] / sides[ours]["median_s"]
        spread = f"{_readable(low)} to {_readable(high)}"
        table.add_row(
            name,
            _readable(facts["median_s"]),
            _readable(facts["fastest_s"]),
            spread,
            str(facts["runs"]),
            f"{ratio:.3g}",
        )
    Console().print(table)


def finish(out: Path, result: dict[str, Any]) -> None:
    """Write the figures and what machine they are of."""
    write_json(out, result | {"environment": describe("cpu")})


def _readable(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
