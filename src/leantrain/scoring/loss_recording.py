"""Losses of a run, checked and noted: of scoring passes, and of training steps, there weighed and averaged too.

B = samples of a batch on this rank.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from leantrain.core.presented import Places
from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import LOSSES, SCORES, TRAINING, Exchange
from leantrain.scoring.loss_shapes import Sums
from leantrain.scoring.scorer import Scores, as_scores, broken, check_losses, judge, weighted_mean
from leantrain.utils import nested_batch

Nonfinite = Literal["raise", "skip", "keep"]


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
        start = time.perf_counter()
        losses, *facts = self._scores(indices, batch)
        if self.strict and not losses.isfinite().all():
            raise FloatingPointError(broken(indices, losses, "scoring"))
        self.exchange.note(SCORES, epoch, indices, losses, *facts)
        spent = time.perf_counter() - start
        self.stats.scored += of
        self.stats.score_seconds += spent
        self.stats.score_cost.append(spent / len(losses))
        return losses

    def try_on(self, indices: Tensor, batch: Any) -> None:
        """An error unless the scoring function fits a batch of the samples ``indices`` (B,). Nothing is noted of it."""
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
            self._scores(indices, batch)

    def _scores(self, indices: Tensor, batch: Any) -> Scores:
        assert self.score is not None
        if self.selector.scale_factor != 1:
            batch = nested_batch.resize(batch, self.selector.scale_factor)
        scores = as_scores(self.score(batch))
        check_losses(scores.losses, len(indices), "score(batch)")
        if scores.correct is None and (missing := self.selector.needs & {"correct", "confidence"}):
            raise ValueError(
                f"{type(self.selector).__name__} needs to know of each sample: {', '.join(sorted(missing))}, and the "
                "scoring function tells losses only. Use leantrain.scorer with (B, C) class scores and (B,) labels, or "
                "return leantrain.Scores(losses, correct, confidence)."
            )
        return scores.cpu()


class TrainingLoss:
    """Callable that gives the loss to call ``backward`` on; see ``Loader.reduce``.

    Args:
        selector: whose needs must be met.
        exchange: takes note of what is told.
        nonfinite: what becomes of a loss that is NaN or infinite.
    """

    def __init__(self, selector: Selector, exchange: Exchange, stats: Stats, nonfinite: Nonfinite) -> None:
        self.selector, self.exchange, self.stats, self.nonfinite = selector, exchange, stats, nonfinite
        self.last: Tensor | None = None  # the losses told last

    def __call__(
        self, places: Places, told: Tensor | Sums, logits: Tensor | None = None, targets: Tensor | None = None
    ) -> Tensor:
        """The mean of weight times loss over the samples of all ranks, or over all that counts of them, once their
        gradients are averaged.

        DDP averages over ranks, so the mean over this rank's samples counts by their share of all.
        """
        indices, first = places.indices, places.first
        losses = told.per_sample() if isinstance(told, Sums) else told
        losses = check_losses(losses, len(indices), "reduce(losses)")
        places.check_gradient(losses.requires_grad)
        correct, confidence = judge(logits, targets)
        if correct is None and (missing := self.selector.needs & {"correct", "confidence", "logits"}):
            raise ValueError(
                f"{type(self.selector).__name__} needs to know of each sample: {', '.join(sorted(missing))}. Call "
                "reduce(losses, logits=logits, targets=targets) with (B, C) class scores and (B,) labels."
            )
        seen = Scores(losses, correct, confidence).cpu()
        self.last = seen.losses
        finite = bool(seen.losses.isfinite().all())
        if not finite and self.nonfinite == "raise":
            raise FloatingPointError(broken(indices, seen.losses, "training"))
        used, facts = losses, None
        if "logits" in self.selector.needs:
            if isinstance(told, Sums):
                raise ValueError(
                    f"{type(self.selector).__name__} changes the losses of single samples, and a mask or sample_ids "
                    "make these means over the batch. Pass one loss a sample to reduce()."
                )
            assert logits is not None
            assert targets is not None
            used, facts = self.selector.observe(places.epoch, indices, losses, logits, targets)
            facts = facts.detach().float().cpu()
        # A step that one rank skips is skipped by all: the others would wait for its gradient.
        skipped = self.nonfinite == "skip" and self.exchange.ranks.any(not finite)
        if not bool(first.all()):  # what is told again changes nothing that is known
            indices, seen, facts = indices[first], seen.take(first), None if facts is None else facts[first]
        if skipped:
            if not finite:
                warnings.warn(broken(places.indices, losses, "training") + " The step is skipped.", stacklevel=3)
            self.stats.skipped_steps += places.steps
            self.exchange.note(LOSSES, places.epoch, indices, seen.losses)
            return losses.new_zeros((), requires_grad=True)
        self.stats.steps += places.steps
        for pixels, samples in places.trained.items():
            self.stats.trained_at[pixels] = self.stats.trained_at.get(pixels, 0) + samples
        self.exchange.note(TRAINING, places.epoch, indices, *seen, facts)
        if isinstance(told, Sums):
            return told.mean(places.weights, self.exchange.ranks)
        loss = used.mean() if places.weights is None else weighted_mean(used, places.weights)
        return loss if places.share == 1 else loss * places.share
