"""The figures of docs/does-it-pay.md."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leantrain.report.figures.style import CONTROL, RC, Look, looks

Found = dict[str, Any]  # what does_it_pay.context gives
COLOURS = {"beats control": "#009E73", "within noise": "#777777", "loses to control": "#D55E00"}
MARKERS = {"beats control": "^", "within noise": "o", "loses to control": "v"}
BEYOND = -12.0  # p.p.; leads further down are drawn there, with their number
SHORT = {
    "noise": "wrong labels: {}",
    "redundant": "each image {} times",
    "repeated": "repeats: {}",
    "long-tail": "long tail: {}",
}


def draw(found: Found, folder: Path) -> list[Path]:
    """Write every figure as a PNG file into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    draws: dict[str, Callable[[Found], Figure]] = {
        "conditions": conditions,
        "time": time,
        "longer": lambda found: time(found["longer"]),
        "more": more,
        "settings": settings,
        "table-a1": table_a1,
        "grad-match": grad_match,
    }
    paths = []
    with rc_context(RC):
        for name, figure in draws.items():
            paths.append(folder / f"{name}.png")
            figure(found).savefig(paths[-1], dpi=130, metadata={"Software": None})
    return paths


def conditions(found: Found) -> Figure:
    """Each method's lead over its control, a panel a condition."""
    figure = Figure(figsize=(2.1 * len(found["conditions"]) + 1.6, 4.3), layout="constrained")
    panels = figure.subplots(1, len(found["conditions"]), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, rows) in zip(panels, found["conditions"].items(), strict=True):
        _leads(axes, [(method, rows[method]) for method in reversed(found["methods"])])
        axes.set_title(short(found["names"][name]), fontsize=9.5)
    figure.supxlabel("lead over full training of the same time, in p.p., with its 95 % interval", fontsize=10.5)
    figure.legend(handles=_verdicts(), loc="outside upper right", ncols=3)
    return figure


def time(found: Found) -> Figure:
    """Accuracy over time, a panel a condition: what lies above the line of plain training pays."""
    rows_of, methods = found["conditions"], found["methods"]
    across = min(3, len(rows_of) + 1)
    down = -(-(len(rows_of) + 1) // across)
    figure = Figure(figsize=(3.7 * across, 3.3 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    look = looks(("full", *methods))
    for axes, (name, rows) in zip(panels, rows_of.items(), strict=False):
        line = found["lines"][name]
        axes.plot(
            [share for share, _ in line],
            [100 * statistics.fmean(values) for _, values in line],
            color="black", marker="o", markerfacecolor="white", markersize=5, linewidth=1.5,
        )  # fmt: skip
        for method in methods:
            style = look[method].line(8) | {"linestyle": "none"}
            axes.plot([rows[method]["time_ratio"]], [100 * rows[method]["accuracy"]], **style)
        axes.set_title(short(found["names"][name]))
        axes.set_xlabel("share of full training's time")
        axes.set_ylabel("test accuracy in %")
    for axes in panels[len(rows_of) :]:
        axes.axis("off")
    plain = Line2D([], [], color="black", marker="o", markerfacecolor="white", label="full training, cut")
    marks = [_mark(look[m], look[m].label) for m in methods]
    panels[len(rows_of)].legend(handles=[plain, *marks], loc="center", ncols=2)
    return figure


def more(found: Found) -> Figure:
    """All methods in a training of more images."""
    rows = found["more"]["rows"]
    return _one_panel(sorted(((m, rows[m]) for m in rows if m != "full"), key=lambda pair: _ahead(pair[1])))


def settings(found: Found) -> Figure:
    """ADONIS's and IDS's settings, one changed at a time."""
    both = {name: _settings_of(found[name]["tables"]) for name in ("adonis", "ids")}
    figure = Figure(figsize=(10.5, 0.23 * max(map(len, both.values())) + 1.6), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, 2), both.items(), strict=True):
        _leads(axes, [(f"{label}, boost {row['boost']:.2f}", row) for label, row in rows], beyond=-math.inf)
        axes.set_title(name.upper())
    figure.supxlabel("lead over full training of the same time, in p.p., with its 95 % interval", fontsize=10.5)
    figure.legend(handles=_verdicts(), loc="outside upper right", ncols=3)
    return figure


def _settings_of(tables: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = [pair for table in tables.values() for pair in table["rows"].items()]
    return [(name, row) for name, row in reversed(rows) if _ahead(row) is not None]


def table_a1(found: Found) -> Figure:
    """The source's Table A1: its own figures to the left, ours to the right, with the line of plain training."""
    (table,) = found["table_a1"]["tables"].values()
    look = looks(("full", *table["rows"]))
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, side in zip(panels, ("printed", "figures"), strict=True):
        for name, row in table["rows"].items():
            style = look[name].line(8) | {"linestyle": "none"}
            axes.plot([row[side]["boost"]], [row[side]["drop"]], **style)
        axes.set_title("the source's" if side == "printed" else "ours, scaled down")
        axes.set_xlabel("boost: full training's time over the method's")
        axes.set_ylabel("drop below full training, in p.p.")
    line = [(share, statistics.fmean(values)) for share, values in found["table_a1"]["line"]]
    drops = [100 * (line[-1][1] - accuracy) for _, accuracy in line]
    panels[1].plot(
        [1 / share for share, _ in line], drops, color="black", marker="o", markerfacecolor="white", linewidth=1.5
    )
    for axes in figure.axes:
        axes.invert_yaxis()
    plain = Line2D([], [], color="black", marker="o", markerfacecolor="white", label="full training, cut")
    marks = [_mark(look[m], m) for m in table["rows"]]
    figure.legend(handles=[plain, *marks], loc="outside right center")
    return figure


def grad_match(found: Found) -> Figure:
    """Fixed-accuracy speed-ups of Grad-Match: ours, the control's, the source's."""
    tables = found["grad_match"]["tables"]
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    for axes, (title, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        labels = [(row, column) for row, cells in table["rows"].items() for column in cells]
        for place, (row, column) in enumerate(reversed(labels)):
            cell = table["rows"][row][column]
            axes.plot([cell["speedup"]], [place], "o", color="#0072B2", markersize=7)
            axes.plot([cell["control_speedup"]], [place], "|", color="black", markersize=13, markeredgewidth=2)
            if cell["printed"] is not None:
                axes.plot([cell["printed"]], [place], "D", color="#D55E00", markerfacecolor="white", markersize=6)
        axes.axvline(1, color=CONTROL, linewidth=0.8)
        axes.set_yticks(range(len(labels)), [f"{row}, {column}" for row, column in reversed(labels)], fontsize=8.5)
        axes.set_title(title.partition(":")[0])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("speed-up to equal accuracy")
    marks = [
        Line2D([], [], ls="none", marker="o", color="#0072B2", label="ours"),
        Line2D([], [], ls="none", marker="|", color="black", ms=12, mew=2, label="full training of the same time"),
        Line2D([], [], ls="none", marker="D", color="#D55E00", mfc="white", label="the source's"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
    return figure


def _one_panel(rows: list[tuple[str, dict[str, Any]]]) -> Figure:
    figure = Figure(figsize=(8.5, 0.26 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    _leads(axes, rows)
    axes.set_xlabel("lead over full training of the same time, in p.p., with its 95 % interval")
    figure.legend(handles=_verdicts(), loc="outside upper right", ncols=3)
    return figure


def _leads(axes: Axes, rows: list[tuple[str, dict[str, Any]]], beyond: float = BEYOND) -> None:
    """A mark with its interval for each of ``rows``, the first at the bottom; number only below ``beyond``."""
    for place, (_, row) in enumerate(rows):
        ahead, colour = _ahead(row), COLOURS[row["verdict"]]
        shown, noise = max(ahead, beyond), row["noise_pp"] if ahead >= beyond else 0.0
        marker = MARKERS[row["verdict"]]
        axes.errorbar(shown, place, xerr=noise, color=colour, marker=marker, markersize=6, capsize=2, linewidth=1.2)
        if shown != ahead:
            axes.annotate(f"{ahead:.1f}", (shown, place), (7, -3), textcoords="offset points", fontsize=8, color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)


def _mark(look: Look, label: str) -> Line2D:
    style: Any = look.line(8) | {"linestyle": "none"}
    return Line2D([], [], **style, label=label)


def _ahead(row: dict[str, Any]) -> float:
    return row["control_accuracy_pp_ahead"]


def _verdicts() -> list[Line2D]:
    return [
        Line2D([], [], color=COLOURS[verdict], marker=MARKERS[verdict], ls="none", label=verdict)
        for verdict in ("beats control", "within noise", "loses to control")
    ]


def short(condition: str) -> str:
    """A condition as a panel's title: ``long tail: 10 + wrong labels: 0.2``, in two lines."""
    parts = [part.partition("=") for part in condition.split("+")]
    return " +\n".join(SHORT.get(name, name).format(value) for name, _, value in parts)
