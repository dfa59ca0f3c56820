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

WIDTH, CLOSE, PANEL, COLUMNS = 10.6, 4.8, 1.35, 6  # in inches: of the figure, heights of its parts; panels in a row
SECONDS = "training seconds, pre-processing and selection included"
WHOLE = FuncFormatter(lambda seconds, _: f"{seconds:,.10g}")


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
    """Above: the last percentage points, where methods and controls part. Below: the whole training, a panel each."""
    others = [method for method in results.methods if method != FULL]
    rows = math.ceil(len(others) / COLUMNS)
    height = CLOSE + PANEL * rows + 0.6 * bool(others)  # the last for a title and for seconds
    figure = Figure(figsize=(WIDTH, height))  # placed by hand: a layout engine takes long over so many axes
    _close_up(results, figure, height)
    if not others:
        return figure
    top, bottom = height - CLOSE - 0.45, 0.65
    sides = {"left": 0.45 / WIDTH, "right": 1 - 0.1 / WIDTH, "top": top / height, "bottom": bottom / height}
    grid = figure.add_gridspec(rows, COLUMNS, **sides, hspace=0.3, wspace=0.12)
    title = "the whole training: each method in its colour, full training in black"
    figure.text(0.1 / WIDTH, (top + 0.25) / height, title, fontsize=10.5, fontweight="bold")
    figure.text(0.5, 0.12 / height, SECONDS, ha="center", fontsize=10)
    panels = [figure.add_subplot(grid[divmod(place, COLUMNS)]) for place in range(len(others))]
    for place, (method, axes) in enumerate(zip(others, panels, strict=True)):
        _panel(results, method, axes)
        axes.tick_params(labelsize=8.5, labelleft=place % COLUMNS == 0, labelbottom=place + COLUMNS >= len(others))
    ends = np.array([axes.dataLim.get_points() for axes in panels])  # (M, 2, 2): lowest and highest, of x and y
    (low, last), high = (ends[:, 0, 1].min(), ends[:, 1, 0].max()), ends[:, 1, 1].max()
    for axes in panels:
        axes.set(xlim=(0, 1.06 * last), ylim=(low - 0.05 * (high - low) - 0.1, high + 0.05 * (high - low) + 0.1))
    return figure


def _close_up(results: Results, figure: Figure, height: float) -> None:
    """All methods that come near full training's accuracy, with the ends of the equal-time controls."""
    look, near = looks(results.methods), []
    low, high = _window(results, 100 * mean_trajectory(results.of(FULL))[1][-1])
    axes = figure.subplots()
    for method in (*[m for m in results.methods if m != FULL], FULL):  # full last: on top
        seconds, accuracy, _ = mean_trajectory(results.of(method))
        if (100 * accuracy >= low).any():
            near.append(method)
            axes.plot(seconds, 100 * accuracy, **look[method].line(), lw=2.0 if method == FULL else 1.5, markevery=[-1])
    _controls(results, axes)
    axes.set_ylim(low, high)
    axes.set_xlim(*_moment(results, low))
    axes.set_title(f"from {low:.0f} % up")
    axes.set_ylabel("test accuracy in %")
    axes.set_xlabel(SECONDS)
    axes.xaxis.set_major_formatter(WHOLE)
    handles = [
        Line2D([], [], **look[m].line(), linewidth=1.7, label=look[m].label) for m in results.methods if m in near
    ]
    if results.all_controls():
        handles.append(Line2D([], [], color=CONTROL, ls=":", marker="o", mfc="white", label="equal-time controls"))
    columns = math.ceil(len(handles) / 21)
    space = columns * (0.65 + 0.085 * max(len(str(handle.get_label())) for handle in handles))
    right = 1 - min(space, 0.6 * WIDTH) / WIDTH
    figure.subplots_adjust(0.62 / WIDTH, 1 - (CLOSE - 0.55) / height, right, 1 - 0.3 / height)
    place = (right + 0.05 / WIDTH, 1 - 0.25 / height)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=columns, handlelength=2.6)


def _panel(results: Results, method: str, axes: Axes) -> None:
    """One method beside full training; the band is the spread over seeds, the open circle the end of its control."""
    look = looks(results.methods)
    for name in (FULL, method):
        runs = results.of(name)
        seconds, accuracy, spread = mean_trajectory(runs)
        axes.plot(seconds, 100 * accuracy, **look[name].line(5.0), lw=1.2, markevery=[-1])
        if name == method and len(runs) > 1:
            low, high = 100 * (accuracy - spread), 100 * (accuracy + spread)
            axes.fill_between(seconds, low, high, color=look[name].colour, alpha=0.2, linewidth=0)
    if runs := results.controls(method):
        axes.plot(*_ends(runs), color=CONTROL, ls="", marker="o", mfc="white", ms=5, zorder=1.9)
    axes.xaxis.set_major_formatter(WHOLE)
    axes.set_title(look[method].label, fontsize=9, fontweight="normal", pad=2)


def _ends(runs: list[RunFacts]) -> tuple[float, float]:
    """Mean seconds and accuracy in % at the end of `runs`."""
    return float(np.mean([run.seconds for run in runs])), 100 * float(np.mean([run.accuracy for run in runs]))


def _controls(results: Results, axes: Axes) -> None:
    """The ends of the control runs, joined: what plain training reaches when it is stopped earlier."""
    ends = [_ends(runs) for runs in results.all_controls()]
    if ends:
        x, y = np.array(sorted(ends)).T
        axes.plot(x, y, color=CONTROL, ls=":", lw=1.2, marker="o", mfc="white", mec=CONTROL, ms=5, zorder=2.5)


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
