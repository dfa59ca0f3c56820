"""Random subsets: RPC and RPD (fixed), and RS2 (a new one each epoch). The controls that other methods must beat.

N = size of the data set, C = classes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.rng import choose, generator
from leantrain.solvers.ranking import by_class
from leantrain.utils import validation
from leantrain.utils.validation import Share


@dataclass(kw_only=True, eq=False)
class RPD(Selector):
    """Random per data set: one fixed random subset of the whole.

    Args:
        keep_ratio: share of the pool kept, ceil(keep_ratio * N) samples. The sources use 0.8.

    Source: the control of the IDS and ADONIS paper, Table A1. Differs from the paper: nothing.
    """

    keep_ratio: Share = 0.8

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        rng = generator(self.run.seed, 0, "rpd")  # always epoch 0: the subset is fixed
        return Plan(pool[choose(len(pool), validation.portion(self.keep_ratio, len(pool)), rng)])


@dataclass(kw_only=True, eq=False)
class RPC(Selector):
    """Random per class: one fixed random subset of each class. Needs class labels.

    Args:
        keep_ratio: share of each class kept, ceil(keep_ratio * N_c) samples, so no class vanishes.

    Source: the control of the IDS and ADONIS paper, Table A1. Differs from the paper: nothing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"targets"})

    keep_ratio: Share = 0.8

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        labels = self.run.need_targets("RPC")[pool]
        kept = []
        for members in by_class(labels):
            rng = generator(self.run.seed, 0, "rpc", int(labels[members[0]]))
            kept.append(pool[members[choose(len(members), validation.portion(self.keep_ratio, len(members)), rng)]])
        return Plan(torch.cat(kept).sort().values)


@dataclass(kw_only=True, eq=False)
class RS2(Selector):
    """Repeated random subsets: each epoch takes the next samples of a random permutation.

    Without replacement until all samples were used; then a fresh permutation follows. Where an epoch spans two
    permutations, samples that it already holds move to the end of the new one, so no epoch holds a sample twice.

    Args:
        keep_ratio: share of the pool used in each epoch, ceil(keep_ratio * N) samples.

    Source: Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR 2024,
    arXiv 2305.18424 (the variant without replacement). Differs from the paper: epochs that span two permutations, as
    said above; the paper's epochs divide the data set evenly.
    """

    learnt = ("pool", "rest")

    keep_ratio: Share = 0.5

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._pool = torch.empty(0, dtype=torch.int64)  # what the permutations are of
        self._rest = self._pool  # what this permutation still holds

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if not torch.equal(pool, self._pool):  # a composed selector gave another pool: start over within it
            self._pool, self._rest = pool, pool[:0]
        count = validation.portion(self.keep_ratio, len(pool))
        taken = self._rest[:count]
        self._rest = self._rest[count:]
        if len(taken) < count:
            rng = generator(self.run.seed, epoch, "rs2")
            fresh = pool[torch.randperm(len(pool), generator=rng)]
            held = torch.zeros(self.run.size, dtype=torch.bool).index_fill_(0, taken, True)[fresh]
            fresh = torch.cat([fresh[~held], fresh[held]])
            missing = count - len(taken)
            taken, self._rest = torch.cat([taken, fresh[:missing]]), fresh[missing:]
        return Plan(taken.sort().values)
