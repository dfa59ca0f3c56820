"""Composer's Selective-Backprop: rank within the batch, train on a smaller one. B = samples of a batch, K = kept."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Batch
from leantrain.core.selector import Selector
from leantrain.rng import generator
from leantrain.utils import validation
from leantrain.utils.validation import CountOrZero, Share, ShareOrZero


@dataclass(kw_only=True, eq=False)
class ComposerSB(Selector):
    """In the later part of the training keeps a fixed share of each batch, samples of large loss likelier.

    What is kept is trained on at once, as a smaller batch: the number of steps stays that of full training.

    Args:
        start: share of the training at which the selection begins.
        end: share of the training at which it ends; from then on everything is used again.
        keep: share of a batch that is kept, ceil(keep * B) samples. 1 is plain training, without scoring.
        interrupt: every ``interrupt``-th batch is trained on whole, without scoring; 0: none.
        scale_factor: below 1, images are resized by it for the scoring pass, which then costs about its square.

    Cost: between ``start`` and ``end``, 1 + 3 keep units a sample of a batch that is judged, 3 of one that is not.
    With the defaults 2.75 instead of 3 there, 2.9 over the whole training. Needs the length of the training.

    Source: Algorithm 1 of the study of Grad-Match and Selective-Backprop for detection, which runs it on SSD300; the
    method is Composer's ``SelectiveBackprop`` (mosaicml/composer), after Jiang et al., "Accelerating Deep Learning by
    Focusing on the Biggest Losers", 2019, arXiv 1910.00762, whose own form is ``SB``.

    An epoch e (from 0) of E belongs where start <= e / E < end.

    Differences: on the card, ``docs/methods/composer-sb.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"score", "epochs"})

    start: ShareOrZero = 0.5
    end: Share = 0.9
    keep: Share = 0.5
    interrupt: CountOrZero = 2
    scale_factor: Share = 1.0

    refill = False  # a setting of the base class, not of the method: no annotation

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end:
            raise ValueError(f"start={self.start} must be below end={self.end}: both are shares of the training.")
        if self.interrupt == 1:
            raise ValueError("interrupt=1 would use every batch whole. 2 uses every second one whole, 0 none.")

    def loss_age(self, epoch: int) -> int | None:
        within = self.start <= epoch / self.run.need_epochs("ComposerSB") < self.end  # line 3
        return 1 if within and self.keep < 1 else None

    def judges(self, epoch: int, number: int) -> bool:
        return self.interrupt == 0 or number % self.interrupt != 0  # line 5

    def select(self, batch: Batch) -> Tensor:
        rng = generator(self.run.seed, batch.epoch, "composer-sb", batch.number)
        return draw(batch.losses, self.keep, rng)  # line 8


def draw(losses: Tensor, keep: float, rng: torch.Generator) -> Tensor:
    """Positions (K,) drawn one by one without replacement, with weights percentile^(1 / keep - 1) of ``losses`` (B,).

    The percentile of the r-th smallest loss, r from 0, is (r + 0.5) / B. Of equal losses the later ranks higher.
    """
    size = len(losses)
    if size == 0:
        return torch.empty(0, dtype=torch.int64)
    percentile = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    ranks = torch.multinomial(percentile ** (1 / keep - 1), validation.portion(keep, size), generator=rng)
    return losses.argsort(stable=True)[ranks].sort().values
