"""Per class: how much of it a method trains on, next to the method's average. C classes."""

from dataclasses import dataclass

import numpy as np

from leantrain.compare.results import Results
from leantrain.report.counts import NO_LABEL, Counts
from leantrain.report.results import mean_std


@dataclass(frozen=True)
class Share:
    """`share` per cent of the class's samples per epoch, `count` times per sample, `lean` = class / average - 1."""

    share: float
    count: float
    lean: float


@dataclass(frozen=True)
class ClassTable:
    """`rows`: method, its average, and one entry per label of `labels` (None where the method never saw it)."""

    labels: list[int]
    hidden: int  # classes left out
    rows: list[tuple[str, Share, list[Share | None]]]


def class_table(results: Results, counts: list[Counts], most: int = 12) -> ClassTable | None:
    """Shares of at most `most` classes, those the methods disagree about most; None where nothing is labelled."""
    labels = sorted(set().union(*(np.unique(c.label).tolist() for c in counts)) - {NO_LABEL}) if counts else []
    if not labels:
        return None
    epochs = {c.method: mean_std([run.epochs for run in results.of(c.method)])[0] for c in counts}
    means = np.array([[own.get(label, np.nan) for label in labels] for own in map(by_class, counts)])  # (methods, C)
    averages = np.array([c.trained.mean() for c in counts])
    with np.errstate(invalid="ignore", divide="ignore"):
        leans = np.where(averages[:, None] > 0, means / averages[:, None] - 1, 0.0)
    telling = np.nanmax(np.abs(np.nan_to_num(leans)), axis=0)
    kept = np.sort(np.argsort(-telling, kind="stable")[:most])
    rows = []
    for c, mean, lean, average in zip(counts, means, leans, averages, strict=True):
        per = max(epochs[c.method], 1e-9)
        entries = [
            None if np.isnan(mean[k]) else Share(100 * mean[k] / per, float(mean[k]), float(lean[k])) for k in kept
        ]
        rows.append((c.method, Share(100 * average / per, float(average), 0.0), entries))
    return ClassTable([labels[k] for k in kept], len(labels) - len(kept), rows)


def by_class(counts: Counts) -> dict[int, float]:
    """Times a sample of each class was trained on; in one pass, however many classes a file names."""
    labels, of = np.unique(counts.label, return_inverse=True)
    means = np.bincount(of, weights=counts.trained) / np.bincount(of)
    return dict(zip(labels.tolist(), means.tolist(), strict=True))
