"""OrderDP: of a random subset, the samples of largest loss. N = size of the data set, s = size of the subset."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from leantrain.rng import generator
from leantrain.solvers.ranking import lowest
from leantrain.utils import validation
from leantrain.utils.validation import Share


@dataclass(kw_only=True, eq=False)
class OrderDP(Selector):
    """Each epoch draws a random subset and uses its samples of largest last loss, an exact number of them.

    The random subset gives every sample its turn; the ranking within it prefers what is not learnt yet. The smaller
    ``subset_ratio``, the more random the choice: at ``keep_ratio`` it is random alone, at 1 the ranking alone.

    Args:
        keep_ratio: q / N, the share of all samples that an epoch uses, exactly ceil(keep_ratio * N) samples.
        subset_ratio: s / N, the share of all samples in the random subset.

    Cost: no extra forward pass; losses are those of the training steps.

    Source: Jin et al., "OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning Framework", ICLR 2026,
    arXiv 2606.08574; of the paper we had the abstract, the details are those of the authors' code. There is no
    debiasing weight: the steps are unbiased for a surrogate loss, in which a sample counts by its rank.

    Differences: on the card, ``docs/methods/orderdp.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss"})

    keep_ratio: Share = 0.6
    subset_ratio: Share = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_ratio > self.subset_ratio:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} is more than subset_ratio={self.subset_ratio}, the subset that it is "
                "taken of; both are shares of all samples. Raise subset_ratio or lower keep_ratio."
            )

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        rng = generator(self.run.seed, epoch, "orderdp")
        size = validation.portion(self.subset_ratio, len(pool))
        # Left in random order, so that equal losses, and the first epoch as a whole, are decided at random.
        subset = torch.randperm(len(pool), generator=rng)[:size]
        losses = self.run.ledger.loss[pool[subset]].nan_to_num(nan=torch.inf)  # not seen yet: before all others
        kept = torch.zeros(len(pool), dtype=torch.bool)
        kept[subset[lowest(-losses, validation.portion(self.keep_ratio, len(pool)))]] = True
        return Plan(pool[kept])
