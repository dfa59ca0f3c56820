"""What a method trains on often and what seldom, in numbers: counts, and how hard full training finds the samples.

M: samples of a method, K: bins of their counts. Losses are the last ones of full training, see ``load_counts``.
"""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from leantrain.report.counts import Counts
from leantrain.report.figures.style import INK, looks
from leantrain.report.results import Results
from leantrain.report.shares import ClassTable

BINS = 40  # at most
COLUMNS = 3


@dataclass(frozen=True)
class Contrast:
    """The ends of one group of samples: how many stand in each, how often they are trained on, their mean loss."""

    samples: tuple[int, int]
    trained: tuple[float, float]
    loss: tuple[float, float]

    @property
    def lean(self) -> float:
        """How often the loss doubles from the least to the most often trained, cut to between -1 and 1."""
        least, most = (max(loss, 1e-9) for loss in self.loss)
        return min(max(math.log2(most / least), -1.0), 1.0)


def ends(trained: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Masks (M,) of the least often trained samples, up to the lower quartile, and the most often, from the upper on.

    Where both quartiles are the same count, those below it and those above it; if there are none, those at it. None
    where all are trained on alike.
    """
    if not len(trained) or trained.min() == trained.max():
        return None
    low, high = np.quantile(trained, (0.25, 0.75))
    if low < high:
        return trained <= low, trained >= high
    least, most = trained < low, trained > low
    return (least if least.any() else trained == low), (most if most.any() else trained == low)


def contrast(counts: Counts) -> Contrast | None:
    """The least against the most often trained samples; None where all are alike, or losses are not known."""
    masks = ends(counts.trained)
    if masks is None or any(np.isnan(counts.loss[mask]).all() for mask in masks):
        return None
    least, most = (counts.take(mask) for mask in masks)
    return Contrast(
        (len(least.index), len(most.index)),
        (float(least.trained.mean()), float(most.trained.mean())),
        (float(np.nanmean(least.loss)), float(np.nanmean(most.loss))),
    )


def contrasts(counts: list[Counts], table: ClassTable | None) -> list[tuple[str, list[Contrast | None]]]:
    """Per method `contrast` over all its samples, then within each class of `table`."""
    labels = [] if table is None else table.labels
    found = [(c.method, [contrast(c), *(contrast(c.take(c.label == label)) for label in labels)]) for c in counts]
    return [(method, entries) for method, entries in found if any(entries)]


def by_count(counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (K + 1,) of bins around whole counts; of each bin the share (K,) of samples in %, and mean loss (K,)."""
    top = int(np.ceil(counts.trained.max())) + 1
    edges = np.arange(0, top + 1, max(1, -(-top // BINS))) - 0.5
    edges = edges if edges[-1] > counts.trained.max() else np.append(edges, edges[-1] + edges[1] - edges[0])
    samples, _ = np.histogram(counts.trained, edges)
    known = ~np.isnan(counts.loss)
    losses, _ = np.histogram(counts.trained[known], edges, weights=counts.loss[known])
    many, _ = np.histogram(counts.trained[known], edges)
    with np.errstate(invalid="ignore"):
        return edges, 100 * samples / len(counts.trained), np.where(many > 0, losses / many, np.nan)


def draw(results: Results, counts: list[Counts]) -> Figure:
    """Per method two panels, one above the other: the samples by their counts, and the mean loss of those."""
    rows = -(-len(counts) // COLUMNS)
    columns = -(-len(counts) // rows)
    figure = Figure(figsize=(max(3.6 * columns, 5.4), 4.4 * rows), layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(1.2, 1) * rows)
    look, binned = looks(results.methods), [by_count(own) for own in counts]
    highest = [1.08 * max(np.nanmax(found[part], initial=1e-9) for found in binned) for part in (1, 2)]
    for place in range(rows * columns):
        row, column = 2 * (place // columns), place % columns
        pair = panels[row : row + 2, column]
        if place >= len(counts):
            pair[0].set_axis_off()
            pair[1].set_axis_off()
            continue
        own, (edges, share, loss) = counts[place], binned[place]
        colour, middles, known = look[own.method].colour, (edges[:-1] + edges[1:]) / 2, ~np.isnan(loss)
        pair[0].bar(middles, share, 0.9 * np.diff(edges), color=colour)
        pair[0].set_title(look[own.method].label)
        pair[1].plot(middles[known], loss[known], color=colour, marker="o", markersize=4, linewidth=1.2)
        if known.any():
            pair[1].axhline(np.nanmean(own.loss), color=INK, linestyle=":", linewidth=1)
        pair[1].set_xlabel("times back-propagated")
        for axes, top, what in zip(pair, highest, ("samples, %", "loss of full training"), strict=True):
            axes.set_ylim(0, top)
            axes.set_xlim(edges[0], edges[-1])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylabel(what if column == 0 else "")
            axes.tick_params(labelleft=column == 0)
        pair[0].tick_params(labelbottom=False)
    return figure
