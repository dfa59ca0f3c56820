"""Learning rates driven by the share of training done, so that a changing number of steps cannot break them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from leantrain.utils import validation


class HasProgress(Protocol):
    @property
    def progress(self) -> float: ...


class ProgressLR(LambdaLR):
    """Sets each group's learning rate to its initial one times ``schedule(loader.progress)``.

    Call ``step()`` after each optimizer step, or once an epoch, as with any torch scheduler. Where the method asks for
    another learning rate (KAKURENBO), the factor ``loader.lr_factor`` of the running epoch is applied on top.

    Args:
        optimizer: the wrapped optimizer.
        loader: what ``leantrain.wrap(..., epochs=...)`` returned; anything with a ``progress`` from 0 to 1 will do.
        schedule: factor of the learning rate as a function of progress, for example ``linear_peak(0.2)``.
    """

    def __init__(self, optimizer: Optimizer, loader: HasProgress, schedule: Callable[[float], float]) -> None:
        super().__init__(optimizer, lambda _: schedule(loader.progress) * getattr(loader, "lr_factor", 1.0))
        if hasattr(loader, "at_epoch_start"):  # an epoch's first step has its own factor already
            loader.at_epoch_start(self._apply)  # pyright: ignore[reportAttributeAccessIssue]

    def _apply(self) -> None:
        self._last_lr = [base * factor(0) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def constant() -> Callable[[float], float]:
    """Factor 1 throughout."""
    return lambda progress: 1.0


def multistep(milestones: Sequence[float], factor: float) -> Callable[[float], float]:
    """Multiplies by ``factor`` at each of ``milestones``, given as shares of the training, ascending in (0, 1)."""
    for milestone in milestones:
        validation.fraction("milestone", milestone, one=False)
    if any(later <= earlier for earlier, later in pairwise(milestones)):
        raise ValueError(f"milestones={list(milestones)} must ascend.")
    return lambda progress: factor ** sum(progress >= milestone for milestone in milestones)


def linear_peak(warmup: float = 0.2) -> Callable[[float], float]:
    """Rises linearly from 0 to 1 during the share ``warmup`` of the training, then falls linearly to 0."""
    validation.fraction("warmup", warmup, zero=True, one=False)
    return lambda progress: progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)


def cosine(warmup: float = 0.0) -> Callable[[float], float]:
    """Rises linearly during the share ``warmup`` of the training, then falls to 0 along a half cosine."""
    from math import cos, pi

    validation.fraction("warmup", warmup, zero=True, one=False)

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return (1 + cos(pi * (progress - warmup) / (1 - warmup))) / 2

    return factor
