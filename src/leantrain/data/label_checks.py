"""Checks of labels, and the class-balanced choice behind ``limit``."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check(labels: Tensor, classes: Sequence[str], where: str, *, training: bool) -> None:
    """Refuse labels that no classifier could be trained on or tested with.

    Args:
        labels: (N,) int64.
        where: the file or split, for errors.
        training: also ask for two different labels.

    Raises:
        ValueError: no samples, a label outside [0, number of classes), or a single class.
    """
    if len(labels) == 0:
        raise ValueError(f"{where} holds no samples.")
    check_range(labels, classes, where)
    if training and bool((labels == labels[0]).all()):
        raise ValueError(
            f"{where}: all {len(labels)} samples have label {int(labels[0])} ({classes[int(labels[0])]}); "
            "a classifier needs at least 2 classes."
        )


def check_range(labels: Tensor, classes: Sequence[str], where: str) -> None:
    """ValueError for a label outside [0, number of classes)."""
    wrong = ((labels < 0) | (labels >= len(classes))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{where}, row {row}: label {int(labels[row])} is outside 0..{len(classes) - 1} "
            f"({len(classes)} classes; {len(wrong)} such rows). Labels count from 0."
        )


def balanced(labels: Tensor, limit: int | None) -> Tensor:
    """Positions of ``limit`` samples: the first of each class, class sizes as equal as they can be.

    Args:
        labels: (N,) int64.
        limit: None or anything >= N keeps all.

    Returns:
        (min(limit, N),) int64, ascending, so the order of the data set stays.

    Raises:
        ValueError: fewer samples than classes, which would leave classes without any.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    present = len(labels.unique())
    if limit < present:
        raise ValueError(f"limit={limit} is smaller than the {present} classes; give at least one sample each.")
    by_class = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    starts = (counts.cumsum(0) - counts)[labels[by_class]]
    turn = torch.empty_like(labels)  # a sample's turn: how many of its class come before it
    turn[by_class] = torch.arange(len(labels)) - starts
    return turn.argsort(stable=True)[:limit].sort().values
