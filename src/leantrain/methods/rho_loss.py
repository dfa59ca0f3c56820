"""RHO-LOSS: learnable, worth learning, not learnt yet. N = size of the data set, B = samples of a large batch."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.plan import Batch, Plan
from leantrain.methods._static_scores import Numbers, StaticScores
from leantrain.utils import validation
from leantrain.utils.validation import Count, CountOrZero, Share


@dataclass(kw_only=True, eq=False)
class RHOLoss(StaticScores):
    """Of each large batch, keeps the samples with the largest reducible holdout loss.

    That is the loss under the model being trained less the loss under a model trained on other data, the irreducible
    loss: large for what can be learnt and is not learnt yet, small for wrong labels, which both models get wrong.

    Args:
        holdout_losses: (N,) loss of each sample under the holdout model, for example
            ``embed.holdout_losses(model, loader, F.cross_entropy)``; or a callable without arguments that makes them
            and is called when first needed.
        keep_ratio: n_b / n_B, the share of a large batch that is trained on, ceil(keep_ratio * B) samples.
        scoring_batches: number of the DataLoader's batches in a large one, n_B / n_b.
        start_epoch: number of epochs at the start that train on everything.

    Cost: a forward pass without gradient for every sample, then forward and backward for the kept ones:
    1 + 3 * keep_ratio units a sample; besides, the training of the holdout model and one pass with it.

    Source: Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt",
    ICML 2022, arXiv 2206.07137, Eq. 3; read were its abstract, summaries of it and the authors' code.

    Differences: on the card, ``docs/methods/rho-loss.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    inputs: ClassVar = {"holdout_losses": Input("holdout", epochs=("holdout_epochs", 0.2))}
    scored = "irreducible"

    holdout_losses: Numbers
    keep_ratio: Share = 0.1
    scoring_batches: Count = 10
    start_epoch: CountOrZero = 0

    def loss_age(self, epoch: int) -> int | None:
        return None if epoch < self.start_epoch else 1

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch >= self.start_epoch:
            self.static_scores()
        return Plan(pool)

    def select(self, batch: Batch) -> Tensor:
        kept = validation.portion(self.keep_ratio, len(batch.indices))
        return most_reducible(batch.losses, self.static_scores()[batch.indices], kept)


def most_reducible(losses: Tensor, irreducible: Tensor, count: int) -> Tensor:
    """Ascending positions of the ``count`` largest differences (Eq. 3) of two (B,) losses; ties by position."""
    return (losses - irreducible).argsort(descending=True, stable=True)[:count].sort().values
