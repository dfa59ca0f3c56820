"""Every figure by name, as objects, as PNG files, and as SVG for the page."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from leantrain.report.counts import Counts, by_content, load_counts
from leantrain.report.figures import accuracy_time, boost_drop, kept_share, selected_samples
from leantrain.report.figures.style import RC
from leantrain.report.results import Results, load

Draw = Callable[[Results], Figure]
SELECTED = 6  # methods whose choice of samples is shown


def figures(out: Path | str) -> dict[str, Figure]:
    """The figures of results folder `out`: ``accuracy_time``, ``boost_drop``, ``kept_share``, ``selected``.

    ``kept_share`` is left out where the folder has no ``metrics.parquet``, ``selected`` where no method
    chooses by content or ``counts.parquet`` lacks the losses. Raises as `leantrain.report.load` does.
    """
    results = load(out)
    return draw_all(results, by_content(load_counts(results) or [], SELECTED))


def draw_all(results: Results, counts: list[Counts]) -> dict[str, Figure]:
    """`figures` of results already read, with the methods whose choice is shown."""
    draws: dict[str, Draw] = {"accuracy_time": accuracy_time.draw, "boost_drop": boost_drop.draw}
    if (results.folder / kept_share.FILE).exists():
        draws["kept_share"] = kept_share.draw
    if any(np.isfinite(own.loss).any() for own in counts):
        draws["selected"] = lambda results: selected_samples.draw(results, counts)
    with rc_context(RC):
        return {name: draw(results) for name, draw in draws.items()}


def save_figures(out: Path | str, folder: Path | str) -> list[Path]:
    """Write every figure of `out` as ``folder/<name>.png`` at 150 dpi; gives the paths. Makes `folder`."""
    target = Path(folder)
    drawn = figures(out)
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{name}.png" for name in drawn]
    with rc_context(RC):
        for path, figure in zip(paths, drawn.values(), strict=True):
            figure.savefig(path, dpi=150)
    return paths


def svg(name: str, figure: Figure) -> str:
    """`figure` as an <svg> element to stand in a page: no prolog, metadata, comments or addresses, own ids."""
    buffer = io.StringIO()
    with rc_context({**RC, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = (
        re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", text[: text.index(">")]) + text[text.index(">") :]
    )
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
