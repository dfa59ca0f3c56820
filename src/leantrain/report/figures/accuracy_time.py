"""Accuracy against training time, the sources' Fig. 7. E epochs, S seeds."""

import math
from functools import reduce

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from leantrain.compare.results import FULL, Results
from leantrain.report.figures.style import CONTROL, looks
from leantrain.train.facts import RunFacts


def mean_trajectory(runs: list[RunFacts]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds (E,), accuracy (E,) and its standard deviation over seeds (E,), per epoch that every seed recorded.

    Pre-processing counts: it comes before the first epoch, and the equal-time control was given that time too.
    """
    tracks = [track if len(track := run.track()) else _end(run) for run in runs]
    epochs = reduce(np.intersect1d, [track[:, 0] for track in tracks])
    if not len(epochs):  # seeds that share no epoch: their ends are still comparable
        tracks, epochs = [_end(run) for run in runs], np.array([np.inf])
    stacked = np.stack([_at(track, epochs) for track in tracks])  # (S, E, 3)
    spread = stacked[:, :, 2].std(axis=0, ddof=1) if len(tracks) > 1 else np.zeros(len(epochs))
    before = float(np.mean([run.preprocess_seconds for run in runs]))
    return before + stacked[:, :, 1].mean(axis=0), stacked[:, :, 2].mean(axis=0), spread


def draw(results: Results) -> Figure:
    """Left: the whole training. Right: the last percentage points, where methods and controls part."""
    figure = Figure(figsize=(10.6, 5.4), layout="constrained")
    whole, close = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
    look = looks(results.methods)
    for method in (*[m for m in results.methods if m != FULL], FULL):  # full last: on top
        runs = results.of(method)
        seconds, accuracy, spread = mean_trajectory(runs)
        for axes in (whole, close):
            axes.plot(
                seconds,
                100 * accuracy,
                **look[method].line(),
                linewidth=2.0 if method == FULL else 1.5,
                markevery=[-1],
            )
            if len(runs) > 1:
                low, high = 100 * (accuracy - spread), 100 * (accuracy + spread)
                axes.fill_between(seconds, low, high, color=look[method].colour, alpha=0.13, linewidth=0)
    _controls(results, close)
    full = 100 * mean_trajectory(results.of(FULL))[1][-1]
    low, high = _window(results, full)
    close.set_ylim(low, high)
    whole.set_xlim(left=0)
    close.set_xlim(*_moment(results, low))
    close.set_title(f"the same, from {low:.0f} % up")
    whole.set_title("whole training")
    whole.set_ylabel("test accuracy in %")
    for axes in (whole, close):
        axes.set_xlabel("training seconds, pre-processing and selection included")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,.10g}"))
    handles = [Line2D([], [], **look[m].line(), linewidth=1.7, label=look[m].label) for m in results.methods]
    if any(_all_controls(results)):
        handles.append(
            Line2D([], [], color=CONTROL, ls=":", marker="o", mfc="white", label="equal-time controls (ends)")
        )
    longest = max(len(str(handle.get_label())) for handle in handles)
    most = max(1, min(6, 140 // (longest + 8)))
    columns = math.ceil(len(handles) / math.ceil(len(handles) / most))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=2.6)
    return figure


def _controls(results: Results, axes: Axes) -> None:
    """The ends of the control runs, joined: what plain training reaches when it is stopped earlier."""
    ends = [
        (np.mean([run.seconds for run in runs]), 100 * np.mean([run.accuracy for run in runs]))
        for runs in _all_controls(results)
        if runs
    ]
    if ends:
        x, y = np.array(sorted(ends)).T
        axes.plot(x, y, color=CONTROL, ls=":", lw=1.2, marker="o", mfc="white", mec=CONTROL, ms=5, zorder=2.5)


def _all_controls(results: Results) -> list[list[RunFacts]]:
    return [*results.line(), *map(results.controls, results.methods)]


def _window(results: Results, full: float) -> tuple[float, float]:
    """Limits in % around the final accuracies; methods more than 8 p.p. below full training do not stretch it."""
    ends = [100 * run.accuracy for run in results.runs]
    near = [end for end in ends if end > full - 8] or [full]
    low, high = min(min(near), full), max(max(near), full)
    room = max(0.25 * (high - low), 0.5)
    return max(low - 1.2 * room, 0), min(high + room, 100)


def _moment(results: Results, low: float) -> tuple[float, float]:
    """Limits in seconds: from where the first curve comes above `low` per cent to the end of the longest run."""
    first, last = math.inf, 0.0
    for method in results.methods:
        seconds, accuracy, _ = mean_trajectory(results.of(method))
        above = seconds[100 * accuracy >= low]
        first = min(first, above[0] if len(above) else math.inf)
        last = max(last, seconds[-1], *[run.seconds for run in results.controls(method)])
    first = first if math.isfinite(first) else 0.0
    first = min(first, 0.9 * last)  # where all rise only at their very end
    return max(first - 0.06 * (last - first), 0), last + 0.04 * (last - first)


def _end(run: RunFacts) -> np.ndarray:
    return np.array([[np.inf, run.seconds, run.accuracy]])


def _at(track: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """The last row of `track` at each of `epochs`: (E, 3)."""
    where = {epoch: row for row, epoch in enumerate(track[:, 0])}
    return track[[where[epoch] for epoch in epochs]]
