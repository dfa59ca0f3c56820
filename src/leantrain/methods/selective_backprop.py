"""Selective-Backprop and its stale variant: large losses are likelier to be trained on. B = samples of a batch."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from leantrain.core.plan import Batch
from leantrain.core.run import Run
from leantrain.methods._loss_recycling import Recycling
from leantrain.rng import generator
from leantrain.utils.validation import Count, CountOrZero, Positive, TwoOrMore


@dataclass(kw_only=True, eq=False)
class SB(Recycling):
    """Keeps each sample by a coin of probability CDF(loss) ** beta, CDF over the most recent losses.

    Args:
        beta: selectivity; on average 1 / (beta + 1) of the samples is kept.
        history: R, the number of recent losses that the CDF is taken over.
        start_epoch: number of epochs at the start that train on everything (priming).
        score, max_age, refresh: ``score="recycle"`` judges by the losses of training steps; see ``Recycling``.

    Cost: a forward pass without gradient for every sample, then forward and backward for the kept ones:
    1 + 3 / (beta + 1) units a sample.

    Source: Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019, arXiv 1910.00762.

    Differs from the paper: nothing. As in ADONIS, a batch is judged after all its losses are in the history; the CDF
    is the share of the history strictly below the loss. Kept samples fill training batches of the full size.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"score"})
    learnt = ("recent",)

    beta: Positive = 2.0
    history: TwoOrMore = 1024
    start_epoch: CountOrZero = 1

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._recent = torch.empty(0, dtype=torch.float32)

    def select(self, batch: Batch) -> Tensor:
        self._recent = torch.cat([self._recent, batch.losses])[-self.history :]
        probability = cdf(self._recent, batch.losses) ** self.beta
        rng = generator(self.run.seed, batch.epoch, "selective-backprop", batch.number)
        return (torch.rand(len(probability), generator=rng, dtype=torch.float32) < probability).nonzero().flatten()


@dataclass(kw_only=True, eq=False)
class StaleSB(SB):
    """Selective-Backprop that uses a sample's loss for several epochs before it scores again.

    Args:
        staleness: for how many epochs a loss counts as current; 1 is plain SB.

    Cost: 1 / staleness + 3 / (beta + 1) units a sample. Epochs that use stored losses load only what they train on.
    Source and differences: as SB.
    """

    staleness: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score == "recycle":
            raise ValueError('StaleSB re-uses the losses of scoring passes, and score="recycle" has none. Use SB.')

    def loss_age(self, epoch: int) -> int | None:
        return None if super().loss_age(epoch) is None else self.staleness


def cdf(history: Tensor, losses: Tensor) -> Tensor:
    """Share of ``history`` strictly below each of ``losses`` (B,). Returns (B,) float32 in [0, 1)."""
    ordered = torch.from_numpy(np.sort(history.numpy()))  # several times faster than torch's sort of so few
    return torch.searchsorted(ordered, losses).float() / len(history)
