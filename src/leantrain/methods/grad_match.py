"""Grad-Match and Grad-Match-PB: the weighted subset whose gradient is nearest to that of everything.

N = samples of the pool, C = classes, D = features before the last layer, E = epochs, M = batches of the pool.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.embed.gradients import Gradients
from leantrain.methods._grad_match_base import Matching
from leantrain.rng import choose, generator
from leantrain.solvers.gradient_factors import BatchGradients, SampleGradients
from leantrain.utils import validation
from leantrain.utils.validation import NotNegative


@dataclass(kw_only=True, eq=False)
class GradMatch(Matching):
    """Every ``select_every`` epochs: of each class the samples, with weights, that best add up to the class's gradient.

    Args:
        gradients: ``embed.gradients(model, loader)``, called at each selection; or ``Gradients``, which then hold for
            the whole training.
        keep_ratio: share of each class that is used, ceil(keep_ratio * N_c) samples, so no class vanishes.
        select_every: R, epochs between selections, counted from the first epoch on a subset.
        regularisation: lambda, against large weights.
        tolerance: eps; a class whose residual is below this share of its gradient needs no more samples.
        per: ``"class-gradient"`` looks, for class c, at the gradient of score c only; ``"class"`` at those of all C
            scores, which takes longer.
        warm: kappa. The first kappa * E * keep_ratio epochs train on everything, the others on subsets. 0.5 is the
            paper's warm start.
        validation: gradients of a validation set, made like ``gradients``. The subset then matches their sum, scaled
            to N.

    Where a class needs fewer samples than its share, random ones of the pool fill up, with weight 1 beside weights that
    add up to about N. All weights are then divided by their mean.

    Cost: at each selection a forward pass over the data set (1 / R units a sample and epoch) and, for k of a class's n
    samples, k * n * D + k^2 * D multiply-adds (``"class"``: k * n * (C + D + k / 2)); then 3 * keep_ratio units a
    sample. Memory beside the N * (C + D) numbers of the factors: one class's rows twice and 8 k * (k + D) bytes
    (``"class"``: the rows in float64, too, and 8 k * (k + n)). The N * C * (D + 1) numbers of the gradients are never
    made. Needs class labels; with ``warm`` the length of the training.

    Source: Killamsetty et al., "GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model
    Training", ICML 2021, arXiv 2103.00123, Algorithms 1 and 2.

    Differences: on the card, ``docs/methods/grad-match.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"targets"})

    per: Literal["class-gradient", "class"] = "class-gradient"

    def _largest(self, run: Run) -> int:
        return int(run.need_targets("GradMatch")[run.where].unique(return_counts=True)[1].max())

    def _select(self, pool: Tensor, gradients: Gradients, rng: torch.Generator) -> None:
        labels, other = self.run.need_targets("GradMatch")[pool], self._validated(gradients)
        low, high, classes = int(labels.min()), int(labels.max()), gradients.delta.shape[1]
        if low < 0 or high >= classes:
            raise ValueError(f"Labels go from {low} to {high}; the gradients are of {classes} classes from 0 on.")
        indices, weights, wanted = [], [], 0
        for label in labels.unique().tolist():
            members, scores = pool[labels == label], [label] if self.per == "class-gradient" else slice(None)
            count = validation.portion(self.keep_ratio, len(members))
            target = None if other is None else class_target(other, label, scores) * (len(pool) / len(other.delta))
            # No name for the samples: they would stay while those of the next class are made.
            solution = self._match(
                SampleGradients(gradients.delta[members][:, scores], gradients.features[members]), count, target
            )
            indices.append(members[solution.indices])
            weights.append(solution.weights)
            wanted += count
        chosen = torch.cat(indices)
        rest = pool[~torch.isin(pool, chosen)]
        extra = rest[choose(len(rest), wanted - len(chosen), rng)]
        self._filled += len(extra)
        self._indices, order = torch.cat([chosen, extra]).sort()
        self._weights = torch.cat([*weights, torch.ones(len(extra), dtype=torch.float32)])[order]


@dataclass(kw_only=True, eq=False)
class GradMatchPB(Matching):
    """Grad-Match per batch: every ``select_every`` epochs the batches, with weights, that best add up to the gradient.

    The batches are fixed, one seeded partition of the pool, and those selected are trained as they are, in a new order
    each epoch. With ``drop_last=True`` in the DataLoader a short last one is none of them.

    Args:
        keep_ratio: share of the batches that is used, ceil(keep_ratio * M).
        regularisation: lambda.
        gradients, select_every, tolerance, warm, validation: as for ``GradMatch``.

    Where fewer batches do, random ones fill up, with weight 1 beside weights that add up to about M. All weights are
    then divided by their mean.

    Cost: as ``GradMatch``, but for the search: (N + M^2) * C * D multiply-adds once, for the products of the batches'
    gradients with each other, and next to nothing in a step; above 8,192 batches 2 * N * C * D for each selected.
    Memory beside the factors: 8 M^2 bytes, as many again times keep_ratio, and blocks of some scores' gradients of all
    batches, of 256 MB unless one score's take more; those of all scores are never held together, which at 5,005 batches
    of ImageNet would take 41 GB. Needs no labels, but a default sampler; with ``warm`` the length of the training.

    Source, differences: as ``GradMatch``. The authors' code also takes the batches in the data set's order, and mixes
    the samples of the selected ones into new batches.
    """

    regularisation: NotNegative = 0.0

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        plan = super().plan(epoch, pool)
        if epoch < self._full:
            return plan
        rng = generator(self.run.seed, epoch, "grad-match-pb order")
        order = torch.randperm(len(self._sizes), generator=rng).tolist()
        positions = torch.arange(len(plan.indices)).split(self._sizes)
        samples = torch.cat([positions[batch] for batch in order])
        return Plan(plan.indices[samples], self._weights[samples], tuple(self._sizes[batch] for batch in order))

    def _largest(self, run: Run) -> int:
        return -(-run.count // run.batch_size)

    def _select(self, pool: Tensor, gradients: Gradients, rng: torch.Generator) -> None:
        partition = torch.randperm(len(pool), generator=generator(self.run.seed, 0, "grad-match-pb"))
        places = self.run.batches(partition)  # in the pool
        batches = [pool[batch] for batch in places]
        if self.run.pool is None:
            atoms = BatchGradients(SampleGradients(gradients.delta, gradients.features), batches)
        else:  # the gradients of samples that the sampler cannot give were never made
            atoms = BatchGradients(SampleGradients(gradients.delta[pool], gradients.features[pool]), places)
        other = self._validated(gradients)
        target = None if other is None else everything(other) * (len(batches) / len(other.delta))
        count = validation.portion(self.keep_ratio, len(batches))
        solution = self._match(atoms, count, target)
        free = torch.ones(len(batches), dtype=torch.bool).index_fill_(0, solution.indices, False).nonzero().flatten()
        extra = free[choose(len(free), count - len(solution.indices), rng)]
        self._filled += len(extra)
        chosen = torch.cat([solution.indices, extra])
        self._sizes = tuple(int(atoms.sizes[batch]) for batch in chosen.tolist())
        self._indices = torch.cat([batches[batch] for batch in chosen.tolist()])
        each = torch.cat([solution.weights, torch.ones(len(extra), dtype=torch.float64)])
        self._weights = each.repeat_interleave(atoms.sizes[chosen])


def everything(gradients: Gradients) -> Tensor:
    """(C, D + 1) float64, the sum of all gradients."""
    samples = SampleGradients(gradients.delta, gradients.features)
    return samples.total(torch.arange(len(samples)), torch.ones(len(samples), dtype=torch.float32))


def class_target(gradients: Gradients, label: int, scores: list[int] | slice) -> Tensor:
    """(c, D + 1) float64, the sum of the gradients of class ``label``, of the scores wanted.

    The class of a sample is the only score whose delta is below zero, so no labels are needed.
    """
    members = gradients.delta.argmin(dim=1) == label
    return everything(Gradients(gradients.delta[members][:, scores], gradients.features[members]))
