"""SeTa: a random part, clustered by loss, seen through a window that slides from easy to hard. N = data set size."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from leantrain.rng import choose, generator
from leantrain.utils import validation
from leantrain.utils.validation import Count, Share, ShareBelowOne, ShareOrZero


@dataclass(kw_only=True, eq=False)
class SeTa(Selector):
    """Scale efficient training: drops a random share, then the groups of losses outside a sliding window.

    Each epoch (1) draws a random part of the samples, (2) clusters it by last loss, (3) uses the clusters within a
    window. From epoch to epoch the window moves one cluster from easy to hard, and at the hard end starts over. The
    last epochs use the random part whole (partial annealing).

    Args:
        prune_ratio: share of the samples that every epoch drops at random, the last epochs included.
        groups: number of clusters.
        window: share of the clusters that an epoch uses, ``round(groups * window)`` of them; 1 is random pruning alone.
        delta: share of the training after which the window is left out.

    Cost: no extra forward pass; losses are those of the training steps. Needs the length of the training.

    Source: Zhou, Gao, Wang, "Scale Efficient Training for Large Datasets", CVPR 2025, arXiv 2503.13385; of the paper
    we had the abstract, the details and the defaults (its CIFAR script) are those of the authors' code.

    Differences: on the card, ``docs/methods/seta.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss", "epochs"})

    prune_ratio: ShareBelowOne = 0.1
    groups: Count = 5
    window: Share = 0.9
    delta: ShareOrZero = 0.875

    def __post_init__(self) -> None:
        super().__post_init__()
        if round(self.groups * self.window) == 0:
            raise ValueError(
                f"window={self.window} of groups={self.groups} is less than one group. Raise window to "
                f"{1 / self.groups:g} or more."
            )

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        rng = generator(self.run.seed, epoch, "seta")
        drawn = pool[choose(len(pool), validation.portion(1 - self.prune_ratio, len(pool)), rng)]
        losses = self.run.ledger.loss[drawn]
        seen = ~losses.isnan()
        if epoch == 0 or epoch >= self.delta * self.run.need_epochs("SeTa") or not seen.any():
            return Plan(drawn)
        group = kmeans(losses[seen], self.groups)
        first, end = slide(epoch - 1, int(group.max()) + 1, self.window)
        used = ~seen
        used[seen] = (group >= first) & (group < end)
        return Plan(drawn[used])


def slide(step: int, groups: int, window: float) -> tuple[int, int]:
    """First group of the window and the one behind it, at its ``step``-th place from the easy end, cyclically."""
    width = max(1, round(groups * window))
    first = step % (groups - width + 1)
    return first, first + width


def kmeans(values: Tensor, groups: int) -> Tensor:
    """The cluster of each of ``values`` (N,), numbered upwards from the smallest values. Returns (N,) int64.

    Lloyd's algorithm. In one dimension a cluster is a stretch of the sorted values, so that a step takes ``groups``
    binary searches and differences of running sums instead of a pass over N. Clusters that come out empty are left
    out; there are never more than distinct values.
    """
    ordered = torch.from_numpy(np.sort(values.numpy())).double()  # many times faster than torch's sort
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    distinct = ordered.unique_consecutive()
    count = min(groups, len(distinct))
    centres = distinct[(torch.arange(count) * 2 + 1) * len(distinct) // (2 * count)]
    for _ in range(300):  # as scikit-learn; it ends far sooner
        ends = torch.searchsorted(ordered, _borders(centres), right=True)
        edges = torch.cat([ends.new_zeros(1), ends, ends.new_tensor([len(ordered)])])
        sizes = edges.diff()
        moved = torch.where(sizes > 0, sums[edges].diff() / sizes, centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    group = torch.bucketize(values.double(), _borders(centres))
    filled = torch.bincount(group, minlength=count) > 0
    return group if filled.all() else (filled.cumsum(0) - 1)[group]


def _borders(centres: Tensor) -> Tensor:
    """Midway between neighbours; a value on it belongs to the lower one."""
    return (centres[1:] + centres[:-1]) / 2
