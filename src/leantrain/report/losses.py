"""Which classes a method lost most on: class by class, its test accuracy beside that of full training. C classes."""

from dataclasses import dataclass

import numpy as np

from leantrain.compare.results import FULL, Results
from leantrain.report.counts import Counts
from leantrain.report.shares import by_class

MOST = 3  # classes named per method


@dataclass(frozen=True)
class Loss:
    """A class: its accuracy in per cent, the p.p. lost against full training, its trained samples against the mean.

    `kept` is presentations of a sample of the class over those of the average sample; None where nothing is known.
    """

    label: int
    accuracy: float
    lost: float
    kept: float | None


@dataclass(frozen=True)
class Lost:
    """One method: the classes that lost most, most first, and the spread of the loss over all classes."""

    method: str
    mean: float
    worst: list[Loss]


def classes_lost(results: Results, counts: list[Counts]) -> list[Lost]:
    """One entry per method but full training; empty where the runs do not tell accuracies by class."""
    full = _by_class(results, FULL)
    if full is None:
        return []
    found = []
    for method in results.methods:
        own = None if method == FULL else _by_class(results, method)
        if own is None or own.shape != full.shape:
            continue
        lost = full - own  # (C,) p.p.
        kept = _kept(next((c for c in counts if c.method == method), None))
        worst = [
            Loss(int(label), float(own[label]), float(lost[label]), kept.get(int(label)))
            for label in np.argsort(-lost, kind="stable")[:MOST]
        ]
        found.append(Lost(method, float(lost.mean()), worst))
    return found


def _by_class(results: Results, method: str) -> np.ndarray | None:
    """(C,) accuracy in per cent, mean over seeds."""
    rows = [run.class_accuracy or [] for run in results.of(method)]
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        return None
    return 100 * np.mean(rows, axis=0)


def _kept(counts: Counts | None) -> dict[int, float]:
    if counts is None or counts.trained.mean() == 0:
        return {}
    average = counts.trained.mean()
    return {label: mean / average for label, mean in by_class(counts).items()}
