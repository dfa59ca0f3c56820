"""KAKURENBO: hide the samples that are learnt well, adaptively, epoch by epoch. N = samples of the pool."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.utils import validation
from leantrain.utils.validation import ShareBelowOne, ShareOrZero


@dataclass(kw_only=True, eq=False)
class Kakurenbo(Selector):
    """Skips in each epoch the samples of smallest last loss, unless their prediction is wrong or unsure.

    The hidden samples get a forward pass at the epoch's end, so that their numbers stay current and they can return.

    Args:
        fraction: F, the largest share of the samples that an epoch may hide.
        tau: a candidate is moved back to the training when its confidence, the largest softmax probability over the
            classes, is below it.
        milestones: shares of the training at which the fraction changes, ascending from 0.
        factors: of ``fraction``, one for each milestone.
        hide: part 1. False hides nothing, which is plain training.
        move_back: part 2. False hides all candidates; correctness and confidence are then not needed, which suits tasks
            without class scores.
        reduce_fraction: part 3. False keeps ``fraction`` all along.
        adjust_lr: part 4. False leaves the learning rate alone.

    Cost: 3 units a trained sample, 1 unit a hidden one; with h of N hidden 3 - 2 h / N units a sample. Hidden samples
    are still read. Needs the length of the training while ``reduce_fraction``.

    Source: Nguyen et al., "KAKURENBO: Adaptively Hiding Samples in Deep Neural Network Training", NeurIPS 2023,
    arXiv 2310.10102.

    Differences: on the card, ``docs/methods/kakurenbo.md``.
    """

    fraction: ShareBelowOne = 0.3
    tau: ShareOrZero = 0.7
    milestones: Sequence[float] = (0.0, 0.3, 0.6, 0.8)
    factors: Sequence[float] = (1.0, 0.8, 0.6, 0.4)
    hide: bool = True
    move_back: bool = True
    reduce_fraction: bool = True
    adjust_lr: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self.milestones, self.factors)
        needs = {"loss", "score"} | ({"correct", "confidence"} if self.move_back else set())
        self.needs = frozenset(needs if self.hide else ())  # pyright: ignore[reportAttributeAccessIssue]

    def setup(self, run: Run) -> None:
        super().setup(run)
        if self.hide and self.reduce_fraction:
            run.need_epochs("KAKURENBO with reduce_fraction=True")

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if not self.hide:
            return Plan(pool)
        ledger = self.run.ledger
        hidden = smallest(ledger.loss[pool], _at_most(self._fraction(epoch), len(pool)))  # step 1
        if self.move_back:  # step 2
            chosen = pool[hidden]
            hidden = hidden[learnt(ledger.correct[chosen], ledger.confidence[chosen], self.tau)]
        if len(hidden) == 0:
            return Plan(pool)
        trained = torch.ones(len(pool), dtype=torch.bool)
        trained[hidden] = False
        factor = 1 / (1 - len(hidden) / len(pool)) if self.adjust_lr else 1.0  # step 3
        return Plan(pool[trained], lr_factor=factor, refresh=pool[~trained])  # step 4: refresh

    def _fraction(self, epoch: int) -> float:
        """F_e, the largest share that epoch ``epoch`` may hide."""
        if not self.reduce_fraction:
            return self.fraction
        progress = epoch / self.run.need_epochs("KAKURENBO")
        return self.fraction * self.factors[sum(progress >= milestone for milestone in self.milestones) - 1]


def smallest(losses: Tensor, count: int) -> Tensor:
    """Positions of the ``count`` smallest of ``losses`` (N,), in that order; fewer where NaN marks too many."""
    count = min(count, int((~losses.isnan()).sum()))
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    few = (losses <= losses.kthvalue(count).values).nonzero().flatten()  # only they need sorting; NaN counts as largest
    return few[losses[few].argsort(stable=True)[:count]]


def learnt(correct: Tensor, confidence: Tensor, tau: float) -> Tensor:
    """(H,) bool: predicted rightly (``correct`` is 1) and surely. An unknown prediction, -1 and NaN, is neither."""
    return (correct == 1) & (confidence >= tau)


def _at_most(ratio: float, total: int) -> int:
    """floor(ratio * total), as F_e is a maximum, without the surprise of floor(0.57 * 100) = 56."""
    return math.floor(round(ratio * total, 6))


def _check_steps(milestones: Sequence[float], factors: Sequence[float]) -> None:
    for name, values in (("milestones", milestones), ("factors", factors)):
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise TypeError(f"{name}={values!r} must be a sequence of numbers such as (0.0, 0.3, 0.6, 0.8).")
        for position, value in enumerate(values):
            validation.fraction(f"{name}[{position}]", value, zero=True)
    if not milestones or milestones[0] != 0 or any(later <= earlier for earlier, later in pairwise(milestones)):
        raise ValueError(f"milestones={milestones!r} must ascend from 0, for example (0.0, 0.3, 0.6, 0.8).")
    if len(factors) != len(milestones):
        raise ValueError(
            f"{len(milestones)} milestones and {len(factors)} factors: give one factor for each milestone, the first "
            "for the start of the training."
        )
