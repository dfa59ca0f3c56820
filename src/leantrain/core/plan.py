"""What a selector answers with, and what an online one is asked about: a plan of an epoch, a batch to judge.

N = size of the data set, M = samples of an epoch's plan, B = samples of an original batch.
"""

import warnings
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from leantrain.core.run import Run
from leantrain.core.view import View


@dataclass(frozen=True, slots=True)
class Plan:
    """The samples of one epoch.

    Args:
        indices: (M,) int64 indices into the data set. The user's own sampler decides their order. Where an index
            stands more than once, the sample is used as often and the plan's order holds.
        weights: (M,) float32 factors of the samples' losses, or None for 1. An index that stands more than once has
            the same weight each time.
        batch_sizes: where given, the plan's order holds and is cut into exactly these training batches.
        lr_factor: of the epoch's learning rate. ``ProgressLR`` follows it; other schedules read ``loader.lr_factor``.
        refresh: (H,) int64 indices that are scored, without training on them, once the epoch's last step is done.
        view: which part of each sample is processed; None for all of it. ``loader.view`` applies it.
    """

    indices: Tensor
    weights: Tensor | None = None
    batch_sizes: tuple[int, ...] | None = None
    lr_factor: float = 1.0
    refresh: Tensor | None = None
    view: View | None = None

    def check(self, who: str, run: Run, epoch: int, pool: int) -> None:
        """ValueError when the plan of ``who`` over ``pool`` samples does not fit the run.

        A warning when it is too small for a batch.
        """
        if self.batch_sizes is not None:
            sizes = self.batch_sizes
            if sum(sizes) != len(self.indices) or min(sizes, default=1) < 1:
                raise ValueError(f"{who} plans {len(self.indices)} samples in batches of {sizes}: each must hold some.")
        if self.weights is not None and self.weights.shape != self.indices.shape:
            raise ValueError(f"{who} plans {len(self.indices)} samples but {tuple(self.weights.shape)} weights.")
        if len(self.indices) == 0:
            raise ValueError(f"{who} selects no sample for epoch {epoch}.")
        low, high = int(self.indices.min()), int(self.indices.max())
        if low < 0 or high >= run.size:
            raise ValueError(f"{who} plans indices {low} to {high}; the data set has 0 to {run.size - 1}.")
        if len(self.indices) < run.batch_size <= pool:
            message = (
                f"{who} selects {len(self.indices)} samples, fewer than one batch of {run.batch_size}. Select more, or "
                "use a smaller batch."
            )
            if epoch == 0:
                raise ValueError(message)
            warnings.warn(message, stacklevel=3)  # the training is under way: go on with a short batch

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that ``of`` makes the plan of again."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"view": self.view and asdict(self.view)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Self:
        """The plan whose ``state_dict`` that is."""
        values: dict[str, Any] = dict(state)
        view = values.pop("view", None)  # an older one lacks it
        return cls(**values, view=view and View(**view))

    @property
    def repeats(self) -> bool:
        """Whether an index stands more than once."""
        return bool((torch.bincount(self.indices) > 1).any())


@dataclass(frozen=True, slots=True)
class Batch:
    """What an online method judges: an original batch, or several joined (``Selector.scoring_batches``).

    Args:
        epoch: the running epoch, from 0.
        number: the batch's number within the epoch, from 0; with ``epoch`` it names a private random stream.
        indices: (B,) int64 indices into the data set.
        losses: (B,) float32, one loss a sample, finite.
    """

    epoch: int
    number: int
    indices: Tensor
    losses: Tensor

    def take(self, positions: Tensor) -> "Batch":
        """The batch made of ``positions`` only."""
        return Batch(self.epoch, self.number, self.indices[positions], self.losses[positions])
