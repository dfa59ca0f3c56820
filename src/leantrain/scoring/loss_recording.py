"""The training loss of a batch: checked, noted, weighed and averaged. B = samples of the batch on this rank."""

import warnings
from typing import Literal

from torch import Tensor

from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import LOSSES, TRAINING, Exchange
from leantrain.scoring.scorer import Scores, broken, check_losses, judge, weighted_mean

Nonfinite = Literal["raise", "skip", "keep"]


class TrainingLoss:
    """Callable that gives the loss to call ``backward`` on; see ``Loader.reduce``.

    Args:
        selector: whose needs must be met.
        exchange: takes note of what is told.
        nonfinite: what becomes of a loss that is NaN or infinite.
    """

    def __init__(self, selector: Selector, exchange: Exchange, stats: Stats, nonfinite: Nonfinite) -> None:
        self.selector, self.exchange, self.stats, self.nonfinite = selector, exchange, stats, nonfinite

    def __call__(
        self,
        epoch: int,
        indices: Tensor,
        losses: Tensor,
        weights: Tensor | None,
        of: int,
        logits: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """The mean of weight times loss over the ``of`` samples of all ranks, once their gradients are averaged.

        DDP averages over ranks, so the mean over this rank's samples counts by their share of all.
        """
        losses = check_losses(losses, len(indices), "reduce(losses)")
        correct, confidence = judge(logits, targets)
        if correct is None and (missing := self.selector.needs & {"correct", "confidence"}):
            raise ValueError(
                f"{type(self.selector).__name__} needs to know of each sample: {', '.join(sorted(missing))}. Call "
                "reduce(losses, logits=logits, targets=targets) with (B, C) class scores and (B,) labels."
            )
        seen, *facts = Scores(losses, correct, confidence).cpu()
        finite = bool(seen.isfinite().all())
        if not finite and self.nonfinite == "raise":
            raise FloatingPointError(broken(indices, seen, "training"))
        # A step that one rank skips is skipped by all: the others would wait for its gradient.
        if self.nonfinite == "skip" and self.exchange.ranks.any(not finite):
            if not finite:
                warnings.warn(broken(indices, seen, "training") + " The step is skipped.", stacklevel=3)
            self.stats.skipped_steps += 1
            self.exchange.note(LOSSES, epoch, indices, seen)
            return losses.new_zeros((), requires_grad=True)
        self.stats.steps += 1
        self.stats.trained += of
        self.exchange.note(TRAINING, epoch, indices, seen, *facts)
        loss = losses.mean() if weights is None else weighted_mean(losses, weights[indices])
        share = len(indices) * self.exchange.ranks.count / of
        return loss if share == 1 else loss * share
