"""Learning rates driven by the share of training done, so that a changing number of steps cannot break them."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise, zip_longest
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from leantrain.utils import validation


class HasProgress(Protocol):
    @property
    def progress(self) -> float: ...


class ProgressLR(LambdaLR):
    """Sets each group's learning rate to its initial one times ``schedule(loader.progress)``.

    A ``LambdaLR`` whose function is given the share of the training done. Call ``step()`` after each optimizer step,
    or once an epoch, as with any torch scheduler; alone, or within ``SequentialLR`` or ``ChainedScheduler``. Where the
    method asks for another learning rate (KAKURENBO), the factor ``loader.lr_factor`` of the running epoch is applied
    on top. Groups added later by ``add_param_group`` follow from the next ``step()`` or epoch on.

    Args:
        optimizer: the wrapped optimizer.
        loader: what ``leantrain.wrap(..., epochs=...)`` returned; anything with a ``progress`` from 0 to 1 will do.
        schedule: factor of the learning rate as a function of progress, for example ``linear_peak(0.2)``.
        last_epoch: as in torch's schedulers: -1 for a new training.

    Warns where steps are taken at a rate of 0 because ``step()`` was not called since, as once an epoch with a schedule
    that begins at 0.
    """

    def __init__(
        self, optimizer: Optimizer, loader: HasProgress, schedule: Callable[[float], float], last_epoch: int = -1
    ) -> None:
        self._taken = 0  # optimizer steps since the rate was last set here
        super().__init__(optimizer, lambda _: schedule(loader.progress) * getattr(loader, "lr_factor", 1.0), last_epoch)
        with contextlib.suppress(AttributeError):  # a wrapper that is no whole Optimizer: it counts no steps
            getattr(optimizer, "optimizer", optimizer).register_step_post_hook(self._after_optimizer_step)
        if hasattr(loader, "at_epoch_start"):  # an epoch's first step has its own factor already
            loader.at_epoch_start(self._at_epoch_start)  # pyright: ignore[reportAttributeAccessIssue]

    def get_lr(self) -> list[float | Tensor]:
        """Each group's rate at the present progress."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:  # came by add_param_group
            group.setdefault("initial_lr", group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"])
            self.base_lrs.append(group["initial_lr"])
            self.lr_lambdas.append(self.lr_lambdas[0])
        self._taken = 0
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def _at_epoch_start(self) -> None:
        """Makes the rate of an epoch's first step fit: its factor is new, and so is the progress after a ``break``.

        Only where this scheduler set the rate last: ``SequentialLR`` may not have come to it yet, or be past it. What
        others in a ``ChainedScheduler`` made of the rate stays, as a factor.
        """
        if self.last_epoch < 0 or self._taken:
            return
        before, self._last_lr = self._last_lr, self.get_lr()
        for group, new, old in zip_longest(self.optimizer.param_groups, self._last_lr, before):
            if new == old:
                continue
            others = self._step_count > 1 and old and group["lr"] != old  # before a first step: loaded, not chained
            rate = group["lr"] * (new / old) if others else new
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _after_optimizer_step(self, *_: Any) -> None:
        self._taken += 1
        if self._taken == 2 and self.last_epoch >= 0 and not any(g["lr"] for g in self.optimizer.param_groups):
            warnings.warn(
                "This was the second optimizer step in a row at a learning rate of 0, which trains nothing: the "
                "schedule is 0 at this progress. Call ProgressLR.step() after every optimizer step, or once an epoch "
                "with a schedule that does not begin at 0, such as linear_peak(warmup=0).",
                stacklevel=2,
            )


class LengthWatch:
    """Watches whether a training is as long as it was said to be, and as ``len(loader)`` made a schedule believe.

    A schedule asks for the length once, before the training; what asks in each epoch, as a progress bar, asks before
    the second one as often as before the first.
    """

    def __init__(self) -> None:
        self.epoch = -1  # the latest of which a step was taken
        self._told: list[list[int]] = [[], []]  # by len(loader), before the first step of epochs 0 and 1

    def told(self, epoch: int, length: int) -> int:
        """``length``, which ``len(loader)`` tells of ``epoch``."""
        if self.epoch < epoch < 2:
            self._told[epoch].append(length)
        return length

    def begins(self, epoch: int, epochs: float | None, taken: int, following: int | None) -> None:
        """The first step of ``epoch`` is taken, in a training of ``epochs``; warns where they do not fit, once each.

        Args:
            taken: steps before.
            following: those that the epoch will take; None where the schedule does not count steps.
        """
        self.epoch = epoch
        if epochs is None:
            return
        if epoch - 1 < epochs:
            warn_past_end(epoch, epochs)
        first, second = self._told
        if epoch == 1 and len(first) > len(second) and taken and following is not None:
            warn_unfinished(first[0], taken, following, epochs)


def warn_past_end(epoch: int, epochs: float) -> None:
    """Warns where ``epoch``, counted from 0, is past a training of ``epochs``: progress and schedules stand still."""
    if epoch >= epochs:
        warnings.warn(
            f"Epoch {epoch}, counted from 0, is past the {epochs:g} epochs that leantrain.wrap was given: progress "
            "stays 1, schedules and methods at their end; a learning rate that ends at 0 trains nothing. Pass the "
            "real length: wrap(..., epochs=...).",
            stacklevel=5,
        )


def warn_unfinished(told: int, taken: int, following: int, epochs: float) -> None:
    """Warns where a schedule over ``told * epochs`` steps, as ``len(loader)`` suggested, will not end in time.

    Args:
        told: batches of an epoch by ``len(loader)`` before the training.
        taken: training steps of the first epoch.
        following: those of the next one, as its plan has it; where batches are chosen as they come, ``taken`` again.
        epochs: length of the training.
    """
    planned, real = round(told * epochs), round(taken + following * (epochs - 1))
    if epochs > 1 and abs(planned - real) > max(1.0, 0.01 * planned):
        warnings.warn(
            f"len(loader) was {told:,} before the training: {planned:,} steps in {epochs:g} epochs. The first epoch "
            f"took {taken:,} and the next takes about {following:,}, so about {real - taken:,} steps are to come, "
            f"{real:,} in all. A learning rate schedule over len(loader) * epochs steps will not end with the "
            "training: use leantrain.ProgressLR, which follows loader.progress.",
            stacklevel=5,
        )


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
