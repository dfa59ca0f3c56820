"""The scoring of a batch within a run: ask the user's scoring function, check what it says, note it. B = samples."""

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import SCORES, Exchange
from leantrain.scoring.scorer import Scores, broken, check_losses
from leantrain.utils import nested_batch


class ScoringPass:
    """Callable that gives the (B,) float32 losses of a batch on the CPU and notes all that is told.

    Args:
        score: the user's scoring function, None where the selector needs none.
        selector: whose needs must be met, and whose ``scale_factor`` resizes images.
        strict: whether a loss that is not finite stops the run.
    """

    def __init__(
        self,
        score: Callable[[Any], Tensor | Scores] | None,
        selector: Selector,
        exchange: Exchange,
        stats: Stats,
        *,
        strict: bool,
    ) -> None:
        self.score, self.selector, self.exchange, self.stats, self.strict = score, selector, exchange, stats, strict

    def __call__(self, epoch: int, indices: Tensor, of: int, batch: Any) -> Tensor:
        """``indices`` (B,) are this rank's of the ``of`` samples that all ranks score now."""
        assert self.score is not None
        start = time.perf_counter()
        if self.selector.scale_factor != 1:
            batch = nested_batch.resize(batch, self.selector.scale_factor)
        scores = self.score(batch)
        scores = scores if isinstance(scores, Scores) else Scores(scores)
        check_losses(scores.losses, len(indices), "score(batch)")
        losses, *facts = scores = scores.cpu()
        if self.strict and not losses.isfinite().all():
            raise FloatingPointError(broken(indices, losses, "scoring"))
        if scores.correct is None and (missing := self.selector.needs & {"correct", "confidence"}):
            raise ValueError(
                f"{type(self.selector).__name__} needs to know of each sample: {', '.join(sorted(missing))}, and the "
                "scoring function tells losses only. Use leantrain.scorer with (B, C) class scores and (B,) labels, or "
                "return leantrain.Scores(losses, correct, confidence)."
            )
        self.exchange.note(SCORES, epoch, indices, losses, *facts)
        spent = time.perf_counter() - start
        self.stats.scored += of
        self.stats.score_seconds += spent
        self.stats.score_cost.append(spent / len(losses))
        return losses
