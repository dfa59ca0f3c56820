"""A class cap: no class comes more often than a typical one. N = size of the data set, M = samples of the pool."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.methods.class_floor import draw_by_class
from leantrain.rng import generator
from leantrain.utils.validation import Positive

TAIL = 1.5  # the largest class over the median one; below it, nothing is capped


@dataclass(kw_only=True, eq=False)
class ClassCap(Selector):
    """Each epoch takes at most ``cap`` times as many samples of a class as the median class has, drawn anew, weight 1.

    For rare classes that count as much as frequent ones: with the goal "as-trained" it does nothing. Neither where the
    largest class, at the start, has at most 1.5 times the samples of the median one.

    Args:
        cap: most samples of a class, over those of the median class; lower takes less time.

    Cost: 3 units a sample taken. Needs class labels and the goal. Classes without a sample in the pool do not count; of
    an even number of classes the median lies between the middle two.

    Source: none, this is ours.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"targets", "goal"})
    learnt = ("counts",)

    cap: Positive = 1.0

    def setup(self, run: Run) -> None:
        super().setup(run)
        classes, self._class = run.need_targets("ClassCap").unique(return_inverse=True)  # (C,), (N,)
        self._classes = len(classes)
        self._counts = torch.empty(0, dtype=torch.int64)  # (C,) of the first pool: they turn it on or off for good

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        counts = torch.bincount(self._class[pool], minlength=self._classes)
        if not len(self._counts):
            self._counts = counts
        if not self._acts():
            return Plan(pool)
        wanted = counts.clamp_max(self._limit(counts))
        return Plan(pool[draw_by_class(self._class[pool], wanted, generator(self.run.seed, epoch, "class cap"))])

    def _limit(self, counts: Tensor) -> int:
        """Most samples of a class, of a pool with ``counts`` (C,)."""
        return max(1, round(min(self.cap * typical(counts), float(counts.max()))))

    def _acts(self) -> bool:
        return self.run.goal == "balanced" and int(self._counts.max()) > TAIL * typical(self._counts)

    def report(self) -> dict[str, float]:
        counts = self._counts
        capped = int((counts > self._limit(counts)).sum()) if len(counts) and self._acts() else 0
        return {"classes_capped": capped}

    def notes(self) -> list[str]:
        counts = self._counts
        if self.run.goal != "balanced":
            return ["ClassCap: classes are to come as often as in training (goal as-trained), so none is capped."]
        if not len(counts):
            return []
        sizes = f"the largest class has {int(counts.max()):,} samples and the median one {typical(counts):g}"
        if not self._acts():
            return [f"ClassCap: {sizes}; up to {TAIL:g} times as many none is capped."]
        limit = self._limit(counts)
        left = int(counts.clamp_max(limit).sum())
        return [
            f"ClassCap: {sizes}; of each class an epoch takes {limit:,} at most, {left:,} of {int(counts.sum()):,} "
            "samples in all."
        ]


def typical(counts: Tensor) -> float:
    """The median of those of ``counts`` (C,) that are not 0; of an even number, between the middle two."""
    return float(counts[counts > 0].double().quantile(0.5))
