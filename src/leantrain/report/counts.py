"""What became of each training sample: how often it was back-propagated. M: distinct samples of a method's runs."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from leantrain.compare.results import FULL, Results
from leantrain.report.files import read_table
from leantrain.report.verdict import RANDOM
from leantrain.train.facts import MOST

FILE = "counts.parquet"
NO_LABEL = -1
NUMBERS = ("loss", "distance")  # that not every file has


@dataclass(frozen=True, kw_only=True)
class Counts:
    """One method. Sorted by `index`, which is the sample's place in the user's data set."""

    method: str
    index: np.ndarray  # (M,) int64
    label: np.ndarray  # (M,) int64; NO_LABEL where the data has none
    trained: np.ndarray  # (M,) float64: times back-propagated in one training, mean over seeds
    loss: np.ndarray  # (M,) float64: the last loss seen; mean over the seeds that know it, else NaN
    distance: np.ndarray  # (M,) float64: from the prototype that the method ranks by, likewise

    def uneven(self) -> float:
        """Coefficient of variation of `trained`: 0 where every sample is used alike."""
        mean = float(self.trained.mean())
        return float(self.trained.std()) / mean if mean > 0 else 0.0

    def take(self, rows: np.ndarray) -> "Counts":
        """The samples at `rows` only: places, or a mask (M,)."""
        return Counts(method=self.method, **{k: v[rows] for k, v in vars(self).items() if k != "method"})


def load_counts(results: Results) -> list[Counts] | None:
    """Per method with rows in ``counts.parquet``, ``full`` left out; None where the folder has no such file.

    `loss` of each is that of full training: all methods' samples are measured by the same model, one that saw them all.
    Reads one method at a time: memory holds its rows, not the file. Raises ValueError for an unreadable file.
    """
    path = results.folder / FILE
    if not path.exists():
        return None
    full = _of(path, FULL)
    found = (_of(path, method) for method in results.methods if method != FULL)
    return [dataclasses.replace(counts, loss=_losses(full, counts.index)) for counts in found if len(counts.index)]


def _losses(full: Counts, index: np.ndarray) -> np.ndarray:
    """The losses that ``full`` has of the samples ``index`` (M,), NaN for those that it has not."""
    known = np.isin(index, full.index)
    losses = np.full(len(index), np.nan)
    losses[known] = full.loss[np.searchsorted(full.index, index[known])]
    return losses


def _of(path: Path, method: str) -> Counts:
    table = read_table(path, ["index", "label", "trained"], method=method, optional=NUMBERS)
    for name in NUMBERS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    types = dict.fromkeys(("index", "label"), pa.int64()) | dict.fromkeys(("trained", *NUMBERS), pa.float64())
    try:
        table = table.cast(pa.schema(types))
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"{path}: 'index', 'label' and 'trained' must be whole numbers ({error}).") from None
    if table["index"].null_count or table["trained"].null_count:
        raise ValueError(f"{path}: {method!r} has rows without an 'index' or 'trained'.")
    index, trained = table["index"].to_numpy(), table["trained"].to_numpy()
    if len(index) and index.min() < 0:
        raise ValueError(f"{path}: 'index' counts from 0, but holds {index.min()}.")
    if not ((trained >= 0) & (trained <= MOST)).all():
        raise ValueError(f"{path}: {method!r} has an impossible count in 'trained'.")
    for name in NUMBERS:
        if not (np.abs(table[name].drop_null().to_numpy()) <= MOST).all():
            raise ValueError(f"{path}: {method!r} has an impossible number in {name!r}.")
    numbers = [(name, "mean") for name in ("trained", *NUMBERS)]
    means = table.group_by("index").aggregate([("label", "min"), *numbers]).sort_by("index")
    return Counts(
        method=method,
        index=means["index"].to_numpy(),
        label=means["label_min"].fill_null(NO_LABEL).to_numpy(),
        trained=means["trained_mean"].to_numpy(),
        loss=means["loss_mean"].to_numpy(),
        distance=means["distance_mean"].to_numpy(),
    )


def by_content(counts: list[Counts], most: int) -> list[Counts]:
    """At most `most` methods worth looking into: uneven, not by chance; the most uneven ones, in given order."""
    choosing = [c for c in counts if c.uneven() > 0.01 and c.method not in RANDOM]
    chosen = sorted(choosing, key=Counts.uneven, reverse=True)[:most]
    return [c for c in choosing if c in chosen]
