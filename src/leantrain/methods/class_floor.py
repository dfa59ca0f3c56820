"""No class vanishes: a floor below what a selector keeps of each class, and which classes lost most.

N = size of the data set, B = samples of a batch, C = classes.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.core.selector_wrapper import Around
from leantrain.rng import choose, generator
from leantrain.utils import validation


@dataclass(eq=False)
class ClassFloor(Around):
    """Gives each class back what ``selector`` takes of it below a share of ``ratio``.

    Of each class in the pool at least ceil(ratio * n) of its n samples stand in the plan; the missing ones are drawn at
    random from those left out, with weight 1. Where the plan fixes its batches, they come in batches of their own at
    its end. In epochs with an online choice, the class has had floor(ratio * seen) of its samples kept of those judged
    so far; the missing ones are drawn from the batch at hand, so a class of which an epoch has seen fewer than
    1 / ratio samples may still go without.

    Args:
        selector: any selector, a composition too.
        ratio: the least share of each class.

    Cost: that of ``selector``, and 3 units a sample added; ``report()`` counts them. Needs class labels.

    Source: none, this is ours. A sample that is added is unknown to ``selector``: its learning rate factor and the
    weights of the others stay as planned.
    """

    learnt = ("added", "epoch", "seen", "kept")

    ratio: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.fraction("ratio", self.ratio)

    def setup(self, run: Run) -> None:
        super().setup(run)
        classes, self._class = run.need_targets("ClassFloor").unique(return_inverse=True)  # (C,), (N,)
        self._added = 0
        self._epoch = -1  # of which the batches are counted
        self._seen = self._kept = torch.zeros(len(classes), dtype=torch.int64)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        plan = self.selector.plan(epoch, pool)
        planned = torch.zeros(self.run.size, dtype=torch.bool)
        planned[plan.indices] = True
        pool = pool.unique()
        members = self._count(pool)
        least = (members.double() * self.ratio).round(decimals=6).ceil().long()
        missing = least.maximum(members.clamp_max(1)) - self._count(pool[planned[pool]])
        left_out = pool[~planned[pool]]
        rng = generator(self.run.seed, epoch, "class floor")
        added = left_out[draw_by_class(self._class[left_out], missing, rng)]
        if len(added) == 0:
            return plan
        self._added += len(added)
        added = added[torch.randperm(len(added), generator=rng)]  # the order matters where the plan fixes its batches
        weights, sizes, refresh = plan.weights, plan.batch_sizes, plan.refresh
        if weights is not None:
            weights = torch.cat([weights, torch.ones(len(added), dtype=weights.dtype)])
        if sizes is not None:
            sizes += tuple(len(batch) for batch in added.split(self.run.batch_size))
        if refresh is not None:  # its training step tells of an added sample
            refresh = refresh[~torch.isin(refresh, added)]
        indices = torch.cat([plan.indices, added])
        if sizes is None and plan.repeats:  # its order holds: put them at random places within
            between = torch.rand(len(added), generator=rng, dtype=torch.float64) * len(plan.indices)
            order = torch.cat([torch.arange(len(plan.indices)), between]).argsort()
            indices, weights = indices[order], None if weights is None else weights[order]
        return replace(plan, indices=indices, weights=weights, batch_sizes=sizes, refresh=refresh)

    def select(self, batch: Batch) -> Tensor:
        kept = self.selector.select(batch)
        if batch.epoch != self._epoch:
            self._epoch = batch.epoch
            self._seen = self._kept = torch.zeros_like(self._seen)
        self._seen = self._seen + self._count(batch.indices)
        self._kept = self._kept + self._count(batch.indices[kept])
        missing = (self._seen.double() * self.ratio).round(decimals=6).floor().long() - self._kept
        rejected = torch.ones(len(batch.indices), dtype=torch.bool)
        rejected[kept] = False
        rejected = rejected.nonzero().flatten()
        rng = generator(self.run.seed, batch.epoch, "class floor of a batch", batch.number)
        added = rejected[draw_by_class(self._class[batch.indices[rejected]], missing, rng)]
        if len(added) == 0:
            return kept
        self._added += len(added)
        self._kept = self._kept + self._count(batch.indices[added])
        return torch.cat([kept, added]).sort().values

    def _count(self, indices: Tensor) -> Tensor:
        """Of each class, how many of ``indices``: (C,) int64."""
        return torch.bincount(self._class[indices], minlength=len(self._seen))

    def settings(self) -> dict[str, Any]:
        return {"ratio": self.ratio, type(self.selector).__name__: self.selector.settings()}

    def report(self) -> dict[str, float]:
        return self.selector.report() | {"samples_added_by_class_floor": self._added}


def draw_by_class(labels: Tensor, wanted: Tensor, rng: torch.Generator) -> Tensor:
    """Ascending positions in ``labels`` (B,): of each class c ``wanted[c]`` at random, or all where there are fewer."""
    short = (wanted[labels] > 0).nonzero().flatten()
    by_class = short[labels[short].argsort(stable=True)]
    counts = torch.bincount(labels[short], minlength=len(wanted))
    drawn = [by_class[:0]]
    for label, members in enumerate(by_class.split(counts.tolist())):
        if len(members):
            drawn.append(members[choose(len(members), int(wanted[label]), rng)])
    return torch.cat(drawn).sort().values
