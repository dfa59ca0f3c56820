"""RandomPB: fixed batches, some of them at random. The control of Grad-Match-PB. M = batches of the pool."""

from dataclasses import dataclass

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from leantrain.rng import generator
from leantrain.utils import validation
from leantrain.utils.validation import Count, Share


@dataclass(kw_only=True, eq=False)
class RandomPB(Selector):
    """Divides the pool into fixed batches once, and trains in each epoch on some of them, as they are.

    Args:
        keep_ratio: share of the batches used in an epoch, ceil(keep_ratio * M).
        select_every: epochs for which a choice of batches holds.

    Cost: 3 * keep_ratio units a sample. The other samples are never read. Needs a default sampler.

    Source: the control of the report on Grad-Match and Selective-Backprop for detection, which says: "divide train set
    into fixed batches, then randomly choose batches". Rulings where that is silent: the partition is random, a short
    last batch is one of the batches (with ``drop_last=True`` in the DataLoader it is never used), every epoch chooses
    anew unless ``select_every`` says otherwise, without replacement within the epoch, and trains in a random order.
    """

    keep_ratio: Share = 0.3
    select_every: Count = 1

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        seed, choice = self.run.seed, epoch - epoch % self.select_every
        batches = self.run.batches(pool[torch.randperm(len(pool), generator=generator(seed, 0, "random-pb"))])
        count = validation.portion(self.keep_ratio, len(batches))
        chosen = torch.randperm(len(batches), generator=generator(seed, choice, "random-pb choice"))[:count]
        order = chosen[torch.randperm(count, generator=generator(seed, epoch, "random-pb order"))].tolist()
        return Plan(torch.cat([batches[i] for i in order]), batch_sizes=tuple(len(batches[i]) for i in order))
