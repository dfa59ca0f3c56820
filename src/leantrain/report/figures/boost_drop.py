"""Boost against accuracy drop, with the curve of the equal-time controls drawn in. K points."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from leantrain.report.figures.label_placement import place_labels
from leantrain.report.figures.style import CONTROL, looks
from leantrain.report.results import FULL, Results

PAYS = "#e8f3ec"


def control_curve(results: Results) -> np.ndarray:
    """(K, 2) float64: boost and drop in p.p. of full training at (1, 0) and of every control, by boost.

    Means over seeds. Boost = epochs of full training / epochs of the control: the ratio of their times, for the same
    work in every epoch, whatever else the machine was doing meanwhile.
    """
    full = results.of(FULL)
    epochs, accuracy = (np.mean([(run.epochs, run.accuracy) for run in full], axis=0)).tolist()
    points = [(1.0, 0.0)]
    for runs in results.all_controls():
        own_epochs, own_accuracy = np.mean([(run.epochs, run.accuracy) for run in runs], axis=0).tolist()
        points.append((epochs / own_epochs, 100 * (accuracy - own_accuracy)))
    return np.array(sorted(points), dtype=np.float64)


def draw(results: Results) -> Figure:
    """Methods above and left of the grey curve are worth their trouble; x: drop in p.p., y: boost."""
    figure = Figure(figsize=(10.0, 5.8), layout="constrained")
    axes = figure.subplots()
    look = looks(results.methods)
    curve = control_curve(results)
    points: list[tuple[float, float]] = []
    names: list[str] = []
    for method in results.methods:
        boost, drop = results.value(method, "boost_with_preprocessing"), results.value(method, "accuracy_drop_pp")
        boost = results.value(method, "boost") if boost is None else boost
        if method != FULL and boost is not None and drop is not None:
            points.append((drop, boost))
            names.append(method)
    dots = np.array(points, dtype=np.float64).reshape(-1, 2)
    limit = _limit(np.concatenate([dots[:, 0], curve[:, 1]]))
    _limits(axes, dots, curve, limit)
    left, right = axes.get_xlim()
    lines = [np.minimum(curve[:, ::-1], [right, np.inf])]  # what names must not cover
    axes.fill_betweenx(curve[:, 0], left, np.minimum(curve[:, 1], right), color=PAYS, linewidth=0, zorder=0)
    axes.plot(curve[:, 1], curve[:, 0], color=CONTROL, ls="--", lw=1.4, zorder=2)
    shown = curve[curve[:, 1] <= limit]
    axes.plot(shown[:, 1], shown[:, 0], "o", color="white", mec=CONTROL, ms=5.5, zorder=2.1)
    axes.plot(0, 1, "o", color="black", ms=8, zorder=4)
    texts, colours = ["full training"], ["#000000"]
    spots = [(0.0, 1.0)]
    for (drop, boost), method in zip(dots, names, strict=True):
        style = look[method].line()
        x = float(drop) if drop <= limit else right
        spread = results.value(method, "accuracy_drop_std")
        if spread and drop <= limit:
            axes.errorbar(drop, boost, xerr=spread, color=style["color"], lw=1, alpha=0.5, capsize=0, zorder=3)
            lines.append(np.array([[drop - spread, boost], [drop + spread, boost]]))
        without = results.value(method, "boost")
        if without is not None and abs(without - boost) > 0.005 * boost:
            axes.plot([x, x], [boost, without], color=style["color"], lw=1, ls=":", zorder=3)
            axes.plot(x, without, **(style | {"color": "white", "markeredgecolor": style["color"]}), zorder=3)
            lines.append(np.array([[x, boost], [x, without]]))
        axes.plot(x, boost, **look[method].line(size=8.5), zorder=5, clip_on=False)
        texts.append(look[method].label + (f" (drop {drop:.1f} →)" if drop > limit else ""))
        colours.append(style["color"])
        spots.append((x, float(boost)))
    axes.set_xlabel("accuracy drop against full training in p.p.   (left is better)")
    axes.set_ylabel("boost: times faster than full training   (up is better)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda boost, _: f"{boost:.4g}×"))
    corner = {"transform": axes.transAxes, "fontsize": 10, "style": "italic", "color": "#4d7a5d", "zorder": 1}
    axes.text(0.012, 0.985, "pays: above and left of the curve", va="top", **corner)
    corner["color"] = "#777777"
    axes.text(0.988, 0.015, "does not pay: fewer epochs of plain training do better", ha="right", **corner)
    if len(curve) > 1:
        end = shown[-1]
        texts.append("full training, fewer epochs")
        colours.append(CONTROL)
        spots.append((float(end[1]), float(end[0])))
    place_labels(axes, np.array(spots), texts, colours, lines, fontsize=9.5)
    return figure


def _limit(drops: np.ndarray) -> float:
    """The drop beyond which a point is pinned to the right edge: a failed method must not squeeze the rest."""
    usual = np.quantile(drops, 0.75)
    edge = 4.0 * max(usual, 1.0) + 1.0
    return float(drops[drops <= edge].max()) if (drops > edge).any() else float(drops.max())


def _limits(axes: Axes, dots: np.ndarray, curve: np.ndarray, limit: float) -> None:
    """Room on every side for names and for the curve."""
    x = np.minimum(np.concatenate([dots[:, 0], curve[:, 1]]), limit)
    y = np.concatenate([dots[:, 1], curve[:, 0]])
    wide, tall = max(float(np.ptp(x)), 0.5), max(float(np.ptp(y)), 0.2)
    axes.set_xlim(x.min() - 0.12 * wide, x.max() + 0.16 * wide)
    axes.set_ylim(y.min() - 0.12 * tall, y.max() + 0.14 * tall)
