"""InfoBatch: drop a random part of the easy samples, weigh the rest of them up. N = size of the data set."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from leantrain.rng import choose, generator
from leantrain.utils import validation
from leantrain.utils.validation import ShareBelowOne, ShareOrZero


@dataclass(kw_only=True, eq=False)
class InfoBatch(Selector):
    """Unbiased dynamic pruning: of the samples whose last loss is below the mean, a random share is skipped.

    Args:
        prune_ratio: r, the share of the below-mean samples that an epoch skips. The share of all samples skipped is
            r times the share below the mean, so less than r.
        delta: share of the training after which every sample is used again with weight 1.

    Cost: no extra forward pass; losses are those of the training steps. Needs the length of the training.

    Source: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024,
    arXiv 2303.04947.

    Differences: on the card, ``docs/methods/infobatch.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss", "epochs"})

    prune_ratio: ShareBelowOne = 0.5
    delta: ShareOrZero = 0.875

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch >= self.delta * self.run.need_epochs("InfoBatch"):  # annealing, section 3.3
            return Plan(pool)
        rng = generator(self.run.seed, epoch, "infobatch")
        return prune(pool, self.run.ledger.loss[pool], self.prune_ratio, rng)


def prune(pool: Tensor, losses: Tensor, prune_ratio: float, rng: torch.Generator) -> Plan:
    """One epoch's plan from ``losses`` (N,) of ``pool`` (N,); NaN marks a sample not seen yet."""
    easy = losses < losses.nanmean()  # Eq. 3: prune only below the mean; False for NaN
    easy_pool = pool[easy]
    kept = easy_pool[choose(len(easy_pool), validation.portion(1 - prune_ratio, len(easy_pool)), rng)]
    weight = len(easy_pool) / max(len(kept), 1)  # Eq. 4: 1 / (1 - r)
    indices = torch.cat([pool[~easy], kept])
    weights = torch.ones(len(indices), dtype=torch.float32)
    weights[len(indices) - len(kept) :] = weight
    return Plan(indices, weights)
