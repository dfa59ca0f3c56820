"""The share of the data that is back-propagated in each epoch. E epochs."""

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from leantrain.report.figures.style import looks
from leantrain.report.files import read_table
from leantrain.report.results import FULL, Results

FILE = "metrics.parquet"


def kept_shares(results: Results) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per method: epochs (E,) and trained / N (E,), mean over seeds. N: what full training uses in an epoch.

    Raises ValueError or FileNotFoundError for an unreadable ``metrics.parquet``.
    """
    path = results.folder / FILE
    table = read_table(path, ["method", "control_for", "epoch", "trained"])
    table = table.filter(table["control_for"].is_null())
    try:
        table = table.select(["method", "epoch", "trained"]).cast(
            pa.schema([("method", pa.string()), ("epoch", pa.int64()), ("trained", pa.float64())])
        )
    except pa.ArrowException as error:
        raise ValueError(f"{path}: 'epoch' and 'trained' must be numbers ({error}).") from None
    means = table.group_by(["method", "epoch"]).aggregate([("trained", "mean")]).sort_by("epoch")
    methods = np.array(means["method"].to_pylist(), dtype=object)
    epochs, trained = means["epoch"].to_numpy(), means["trained_mean"].to_numpy()
    samples = trained[methods == FULL].max(initial=0.0)
    if samples <= 0:
        raise ValueError(f"{path} has no epoch of {FULL!r} that trained on samples, so no share can be given.")
    return {m: (epochs[methods == m], trained[methods == m] / samples) for m in results.methods if m in methods}


def draw(results: Results) -> Figure:
    """One line per method, in per cent; markers are staggered so that lines on top of each other stay visible."""
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    axes = figure.subplots()
    look = looks(results.methods)
    shares = kept_shares(results)
    for place, (method, (epochs, share)) in enumerate(shares.items()):
        step = max(1, len(epochs) // 5)
        axes.plot(
            epochs,
            100 * share,
            **look[method].line(),
            linewidth=1.5,
            markevery=(place * step // max(len(shares), 1) % max(len(epochs), 1), step),
            label=look[method].label,
            zorder=3 if method == FULL else 2,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("back-propagated, % of the training data")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", handlelength=2.6)
    return figure
