"""What a training used of each class, and which classes lost most. N = size of the data set."""

from typing import Any, NamedTuple

import torch

from leantrain.core import dataset_info
from leantrain.core.ledger import Ledger
from leantrain.utils import validation


class Kept(NamedTuple):
    """What a training used of a class.

    Attributes:
        presentations: samples of the class that were trained on, each as often as it was.
        share: that, as a share of the class size times the epochs: 1 where nothing was left out.
    """

    presentations: int
    share: float


def kept_by_class(ledger: Ledger, targets: Any) -> dict[int, Kept]:
    """By label, what the training so far used of the class. ``targets`` are (N,) labels, as for ``wrap``."""
    labels, sizes, presentations = _presentations(ledger, targets)
    epochs = max(1, int(ledger.trained_epoch.max()) + 1)  # before any training: 0 of one epoch
    rows = zip(labels, sizes, presentations, strict=True)
    return {label: Kept(count, count / (size * epochs)) for label, size, count in rows}


def lost_most(ledger: Ledger, targets: Any, top: int = 5) -> list[tuple[int, float, float]]:
    """The ``top`` classes that were trained on least.

    Args:
        ledger: of the training, ``loader.ledger``.
        targets: (N,) labels, as for ``wrap``; names are told of by their places in sorted order.
        top: how many classes; all where there are fewer.

    Returns:
        (label, presentations a sample, that number relative to its mean over all classes), fewest first. 0.5 at the
        end means half as often as the average class; 1 for all where nothing was trained yet.
    """
    validation.integer("top", top, least=1)
    labels, sizes, presentations = _presentations(ledger, targets)
    each = [count / size for size, count in zip(sizes, presentations, strict=True)]
    mean = sum(each) / len(each)
    rows = [(label, often, often / mean if mean else 1.0) for label, often in zip(labels, each, strict=True)]
    return sorted(rows, key=lambda row: row[1])[:top]


def _presentations(ledger: Ledger, targets: Any) -> tuple[list[int], list[int], list[int]]:
    """Labels ascending, and of each the class size and how often its samples were trained on."""
    given = dataset_info.labels(None, targets, ledger.size)
    if given is None:
        raise TypeError("targets must be (N,) integer class labels, not None.")
    labels, of_class, sizes = given.unique(return_inverse=True, return_counts=True)
    total = torch.zeros(len(labels), dtype=torch.int64).index_add_(0, of_class, ledger.trained.long())
    return labels.tolist(), sizes.tolist(), total.tolist()
