"""IDS: intellectual data selection. First the samples near their class's prototype, then the remote ones.

N = size of the data set, D = features of a sample, L = samples of a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.methods._epoch_fraction import check_span, in_epochs
from leantrain.methods._static_scores import Rows, StaticScores
from leantrain.rng import generator
from leantrain.solvers.prototypes import kmeans, mean, median, medoid, nearest, space
from leantrain.solvers.ranking import by_class, lowest
from leantrain.utils import validation
from leantrain.utils.validation import Count, CountOrZero, Share


@dataclass(kw_only=True, eq=False)
class IDS(StaticScores):
    """Ranks each class by the distance to its mean in feature space; trains on the near part, later on the remote one.

    Args:
        features: the samples' embedding: a (N, D) tensor, ``Features``, or a callable without arguments that makes one
            and is called when first needed, for example ``embed.snapshot(model, loader)``.
        keep_ratio: alpha, the share of each class that is used. 1 uses everything; useful values are 0.5 to 0.9.
        switch_epoch: gamma, the epoch of the change from EASY to HARD; a float is a share of the training. The
            sources change at 180 of 200 (CIFAR-10), 120 of 200 (CIFAR-100), 14 of 90 (ImageNet). Several of them,
            ascending, change there and back again.
        start_epoch: epochs at the start that train on everything; a snapshot extractor is called after them.
        per_class: False ranks the data set as a whole around one prototype (detection: a picture holds many classes).
        prototypes: how many per class. More than one are found by K-Means within the class, and a sample's distance is
            that to the nearest; a class with fewer samples has as many prototypes as samples.
        prototype: what a class's only prototype is: the ``"mean"``, the ``"median"`` of each feature, or the
            ``"medoid"``, the sample with the smallest sum of distances to the class (takes L * L * D operations).
        distance: ``"euclidean"``, ``"cosine"`` (of features scaled to length 1, also for finding the prototypes) or
            ``"manhattan"`` (K-Means stays Euclidean).

    Cost: one embedding pass; no extra forward pass during the training. Needs class labels unless
    ``per_class=False``.

    Source: the ADONIS and IDS paper, Algorithm 2, Eq. 7, Appendix C. K-Means with one cluster is the mean, so that is
    what we compute. Differs from the paper: with the defaults nothing; several prototypes, other prototypes than the
    mean, other distances and several switches are from its outlook.
    """

    inputs: ClassVar = {"features": Input("features", start=("start_epoch", 0.1))}
    scored = "distance"

    features: Rows
    keep_ratio: Share = 0.8
    switch_epoch: int | float | Sequence[int] | Sequence[float] = 0.9
    start_epoch: CountOrZero = 0
    per_class: bool = True
    prototypes: Count = 1
    prototype: Literal["mean", "median", "medoid"] = "mean"
    distance: Literal["euclidean", "cosine", "manhattan"] = "euclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for switch in self._switches():
            check_span("switch_epoch", switch)
        if len({isinstance(switch, float) for switch in self._switches()}) != 1 or any(
            later <= earlier for earlier, later in pairwise(self._switches())
        ):
            raise ValueError(
                f"switch_epoch={self.switch_epoch} must be one switch or several that ascend, all of them epochs, "
                "(30, 60), or all of them shares, (0.3, 0.6)."
            )
        if self.prototypes > 1 and self.prototype != "mean":
            raise ValueError(
                f"prototypes={self.prototypes} are the means that K-Means finds. Drop prototype={self.prototype!r}, "
                "which is for one prototype a class."
            )

    def setup(self, run: Run) -> None:
        if self.per_class:
            run.need_targets("IDS")
        for switch in self._switches():
            in_epochs("switch_epoch", switch, run, "IDS")
        super().setup(run)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch < self.start_epoch:
            return Plan(pool)
        distance = self.static_scores()
        passed = [epoch >= in_epochs("switch_epoch", switch, self.run, "IDS") for switch in self._switches()]
        hard = sum(passed) % 2 == 1
        labels = self._labels()[pool]
        return Plan(pool[nearest_or_remotest(distance[pool], labels, self.keep_ratio, hard=hard)])

    def _switches(self) -> Sequence[int | float]:
        return self.switch_epoch if isinstance(self.switch_epoch, Sequence) else [self.switch_epoch]

    def _labels(self) -> Tensor:
        return self.run.need_targets("IDS") if self.per_class else torch.zeros(self.run.size, dtype=torch.int64)

    def scores_of(self, given: Tensor) -> Tensor:
        return prototype_distance(
            given,
            self._labels()[self.run.where],
            prototypes=self.prototypes,
            prototype=self.prototype,
            distance=self.distance,
            seed=self.run.seed,
        )


def prototype_distance(
    features: Tensor,
    labels: Tensor,
    *,
    prototypes: int = 1,
    prototype: str = "mean",
    distance: str = "euclidean",
    seed: int = 0,
) -> Tensor:
    """Distance (Eq. 7) of each row of ``features`` (N, D) to the nearest prototype of its class. Returns (N,)."""
    result = torch.empty(len(features), dtype=torch.float32)
    for members in by_class(labels):
        label = int(labels[members[0]])
        rows = space(features.index_select(0, members), distance)  # a class at a time: never a copy of all
        if prototypes > 1:
            centres = kmeans(rows, min(prototypes, len(rows)), generator(seed, 0, "ids", label))
        elif prototype == "mean":
            centres = mean(rows)
        else:
            centres = median(rows) if prototype == "median" else medoid(rows, distance)
        result[members] = nearest(rows, centres, distance)
    return result


def nearest_or_remotest(distance: Tensor, labels: Tensor, keep_ratio: float, *, hard: bool) -> Tensor:
    """Positions kept, ascending: of each class the first ceil(alpha * L) by distance, and the last (Algorithm 2)."""
    kept = torch.zeros(len(distance), dtype=torch.bool)
    order = -distance if hard else distance
    for members in by_class(labels):
        values = order[members]
        kept[members[lowest(values, validation.portion(keep_ratio, len(members)))]] = True
        kept[members[(values == values.max()).nonzero()[-1]]] = True
    return kept.nonzero().flatten()
