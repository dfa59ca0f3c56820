"""IES: a sample whose loss no longer bends is mastered, and training on it stops. N = size of the data set."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.solvers.ranking import lowest
from leantrain.utils.validation import Count, NotNegative


@dataclass(kw_only=True, eq=False)
class IES(Selector):
    """Instance-dependent early stopping: mastered samples are not trained on, only looked at.

    A sample is mastered when the second-order differences of its loss over the epochs,
    l_t - 2 l_(t-1) + l_(t-2), are small: the mean magnitude of the last ``window`` is below ``threshold``. The losses
    of mastered samples are taken by a forward pass at the epoch's end, all are judged afresh in every epoch, and who
    is not mastered any more comes back.

    Args:
        threshold: delta. The authors advise 1e-1 to 1e-5, and double it for CIFAR-100. 0 trains on everything.
        window: number of second-order differences that are averaged; 1 is the bare difference.

    Cost: 3 units for a sample trained on, 1 for a mastered one. ``window + 2`` epochs at the start train on everything.

    Source: Yuan et al., "Instance-dependent Early Stopping", ICLR 2025, arXiv 2502.07547; of the paper we had the
    abstract, the details (the average over 3, the pass at the epoch's end) and defaults are those of the authors' code.

    Differences: on the card, ``docs/methods/ies.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss", "score"})
    learnt = ("losses",)

    threshold: NotNegative = 1e-3
    window: Count = 3

    def setup(self, run: Run) -> None:
        super().setup(run)
        # Of each sample the last ones, newest last.
        self._losses = torch.full((self.window + 2, run.size), torch.nan, dtype=torch.float32)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        bend = bending(self._losses[:, pool])
        mastered = bend < self.threshold  # False for NaN, a sample seen too few times
        least = min(self.run.batch_size, len(pool))
        if len(pool) - int(mastered.sum()) < least:
            mastered[lowest(-bend.nan_to_num(nan=torch.inf), least)] = False
        return Plan(pool[~mastered], refresh=pool[mastered] if mastered.any() else None)

    def end_epoch(self, epoch: int) -> None:
        ledger = self.run.ledger
        later = torch.cat([self._losses[1:], ledger.loss.unsqueeze(0)])
        self._losses = torch.where(ledger.loss_epoch == epoch, later, self._losses)

    def report(self) -> dict[str, float]:
        return {"mastered": int((bending(self._losses) < self.threshold).sum())}


def bending(losses: Tensor) -> Tensor:
    """Mean magnitude of the second-order differences of ``losses`` (T, N) over time. Returns (N,)."""
    return losses.diff(n=2, dim=0).abs().mean(dim=0)
