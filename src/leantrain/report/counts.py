"""How often each training sample was back-propagated. M: distinct samples of a method's runs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from .files import read_table
from .results import FULL, MOST, Results
from .verdict import RANDOM

FILE = "counts.parquet"
NO_LABEL = -1


@dataclass(frozen=True, kw_only=True)
class Counts:
    """One method. Sorted by `index`, which is the sample's place in the user's data set."""

    method: str
    index: np.ndarray  # (M,) int64
    label: np.ndarray  # (M,) int64; NO_LABEL where the data has none
    trained: np.ndarray  # (M,) float64: times back-propagated in one training, mean over seeds

    def uneven(self) -> float:
        """Coefficient of variation of `trained`: 0 where every sample is used alike."""
        mean = float(self.trained.mean())
        return float(self.trained.std()) / mean if mean > 0 else 0.0


def load_counts(results: Results) -> list[Counts] | None:
    """Per method with rows in ``counts.parquet``, ``full`` left out; None where the folder has no such file.

    Reads one method at a time: memory holds its rows, not the file. Raises ValueError for an unreadable file.
    """
    path = results.folder / FILE
    if not path.exists():
        return None
    found = (_of(path, method) for method in results.methods if method != FULL)
    return [counts for counts in found if len(counts.index)]


def _of(path: Path, method: str) -> Counts:
    table = read_table(path, ["index", "label", "trained"], method=method)
    try:
        table = table.cast(pa.schema([("index", pa.int64()), ("label", pa.int64()), ("trained", pa.float64())]))
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"{path}: 'index', 'label' and 'trained' must be whole numbers ({error}).") from None
    if table["index"].null_count or table["trained"].null_count:
        raise ValueError(f"{path}: {method!r} has rows without an 'index' or 'trained'.")
    index, trained = table["index"].to_numpy(), table["trained"].to_numpy()
    if len(index) and index.min() < 0:
        raise ValueError(f"{path}: 'index' counts from 0, but holds {index.min()}.")
    if not ((trained >= 0) & (trained <= MOST)).all():
        raise ValueError(f"{path}: {method!r} has an impossible count in 'trained'.")
    means = table.group_by("index").aggregate([("label", "min"), ("trained", "mean")]).sort_by("index")
    return Counts(
        method=method,
        index=means["index"].to_numpy(),
        label=means["label_min"].fill_null(NO_LABEL).to_numpy(),
        trained=means["trained_mean"].to_numpy(),
    )


def by_content(counts: list[Counts], most: int) -> list[Counts]:
    """At most `most` methods worth looking into: uneven, not by chance; the most uneven ones, in given order."""
    choosing = [c for c in counts if c.uneven() > 0.01 and c.method not in RANDOM]
    chosen = sorted(choosing, key=Counts.uneven, reverse=True)[:most]
    return [c for c in choosing if c in chosen]
