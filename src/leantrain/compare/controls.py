"""The controls of a method: full training cut to the method's time, or to its work. Accuracies are shares.

A control is a run of its own, or read off a line: a few full trainings of other lengths with the same seed, which all
methods share. Between two of them accuracy is taken to be linear in the logarithm of the epochs.
"""

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from leantrain.compare.costs import modelled_seconds, of, own, pooled_costs, work
from leantrain.compare.results import FULL, LINE
from leantrain.train.facts import RunFacts

BUDGETS = ("time", "work")
NEAR = 0.01  # shares of full training this close are one control
BEYOND = 0.02  # a method this much longer than full training has full training itself as its control


def share(method: str, runs: list[RunFacts], budget: str) -> float:
    """Time (modelled) or work of ``method``, pre-processing included, over that of full training; means over seeds."""
    if budget == "work":
        return statistics.fmean(map(work, of(runs, method))) / statistics.fmean(map(work, of(runs, FULL)))
    costs = pooled_costs(runs)
    theirs = [modelled_seconds(run, costs) + run.preprocess_seconds for run in of(runs, method)]
    return statistics.fmean(theirs) / statistics.fmean(modelled_seconds(run, costs) for run in of(runs, FULL))


def on_line(wanted: float, shares: tuple[float, ...]) -> bool:
    """Whether a control at that share of full training can be read off a line with runs at ``shares``, and at 1."""
    return bool(shares) and min(shares) <= wanted <= 1 + BEYOND


def control(
    runs: list[RunFacts], method: str, budget: str, value: Callable[[RunFacts], float]
) -> tuple[dict[int, float], float | None]:
    """``value`` of the control of ``method`` by seed, and the epochs that the control has.

    Its own runs where there are any; else those made for the other budget, where the two are all but the same; else
    what the line says. Nothing where there is neither.
    """
    wanted = share(method, own(runs), budget)
    for made_for in (budget, *[other for other in BUDGETS if other != budget]):
        cut = [run for run in of(runs, FULL, method) if (run.budget or "time") == made_for]
        if cut and (made_for == budget or abs(share(method, own(runs), made_for) - wanted) <= NEAR):
            return {run.seed: value(run) for run in cut}, statistics.fmean(run.epochs for run in cut)
    line = of(runs, FULL, LINE)
    if not on_line(wanted, tuple(run.share or 1.0 for run in line)):
        return {}, None
    ends = {run.seed: run for run in of(runs, FULL)}
    found = {}
    for seed, end in ends.items():
        points = [(run.share or 1.0, value(run)) for run in [*line, end] if run.seed == seed]
        found[seed] = _between(min(wanted, 1.0), sorted(points))
    return found, wanted * statistics.fmean(run.epochs for run in ends.values())


def stopped(runs: list[RunFacts], method: str) -> dict[int, float]:
    """Accuracy, by seed, of full training merely stopped at the time of ``method``: its schedule is not compressed.

    Read off the tests along full training, between two of them linearly. Nothing for seeds without a test so early, or
    for a method that takes as long as full training.
    """
    wanted = share(method, own(runs), "time")
    found = {}
    for run in of(runs, FULL):
        tests, end = run.track(), wanted * run.epochs
        epochs = 1 + tests[:, 0]
        if len(tests) and epochs[0] <= end < epochs[-1]:
            found[run.seed] = float(np.interp(end, epochs, tests[:, 2]))
    return found


def _between(wanted: float, points: list[tuple[float, float]]) -> float:
    """The value at ``wanted`` between the two nearest of ``points`` (share, value), linear in log(share)."""
    right = bisect_left(points, (wanted, -math.inf))
    if points[right][0] == wanted:
        return points[right][1]
    (left_share, left), (right_share, value) = points[right - 1], points[right]
    part = math.log(wanted / left_share) / math.log(right_share / left_share)
    return left + part * (value - left)
