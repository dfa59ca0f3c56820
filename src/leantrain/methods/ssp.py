"""SSP: self-supervised prototypes. Keeps the samples that are far from every cluster of the embedding.

N = samples that the user's sampler can give, D = features of one, K = clusters, M = samples of the pool.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.methods._static_scores import Rows, StaticScores, spread
from leantrain.rng import generator
from leantrain.solvers import prototypes
from leantrain.solvers.ranking import by_class, ranks
from leantrain.utils import validation
from leantrain.utils.validation import Count, CountOrZero, Share, ShareOrZero


@dataclass(kw_only=True, eq=False)
class SSP(StaticScores):
    """Ranks the whole data set by the distance to the nearest centroid of a K-Means; trains on the far part.

    Args:
        features: the samples' embedding: a (N, D) tensor, ``Features``, or a callable without arguments that makes one
            and is called when first needed.
        keep_ratio: alpha, the share of the pool that is kept.
        clusters: K. None: the number of classes, which needs class labels.
        distance: ``"cosine"`` or ``"euclidean"``.
        hard: keep the samples far from their centroid; False keeps the near ones, which the paper recommends for
            small data sets.
        class_balance: every class keeps at least this share of what it would keep if all classes were pruned alike.
            The paper uses 0.5 on ImageNet, since pruning makes classes unequal. 0 does without labels.
        start_epoch: epochs at the start that train on everything; a snapshot extractor is called after them.

    Cost: one embedding pass and one K-Means, whose steps take N * K * D operations each; then 3 * keep_ratio units a
    sample. The subset is the same in all epochs.

    Source: Sorscher et al., "Beyond neural scaling laws: beating power law scaling via data pruning", NeurIPS 2022,
    arXiv 2206.14486.

    Differences: on the card, ``docs/methods/ssp.md``.
    """

    inputs: ClassVar = {"features": Input("features", start=("start_epoch", 0.1))}
    scored = "distance"

    features: Rows
    keep_ratio: Share = 0.8
    clusters: Count | None = None
    distance: Literal["cosine", "euclidean"] = "cosine"
    hard: bool = True
    class_balance: ShareOrZero = 0.0
    start_epoch: CountOrZero = 0

    def setup(self, run: Run) -> None:
        prototypes.need_kmeans()  # at the start, not after start_epoch epochs
        if self.clusters is None and run.targets is None:
            raise ValueError(
                "SSP with clusters=None makes one cluster a class, and no labels were found. Say how many: "
                "SSP(clusters=100), or pass labels: wrap(loader, ..., targets=labels)."
            )
        if self.clusters is not None and self.clusters > run.count:
            raise ValueError(f"clusters={self.clusters} is more than the {run.count} samples. Use fewer clusters.")
        if self.class_balance:
            run.need_targets("SSP with class_balance")
        super().setup(run)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch < self.start_epoch:
            return Plan(pool)
        distance = self.static_scores()
        known = distance[self.run.where]
        rank = spread(ranks(known if self.hard else -known, generator(self.run.seed, 0, "ssp")), self.run)
        labels = self.run.need_targets("SSP")[pool] if self.class_balance else torch.zeros_like(pool)
        return Plan(pool[highest_of_classes(rank[pool], labels, self.keep_ratio, self.class_balance)])

    def scores_of(self, given: Tensor) -> Tensor:
        clusters = self.clusters or len(self.run.need_targets("SSP")[self.run.where].unique())
        return centroid_distance(given, clusters, self.distance, generator(self.run.seed, 0, "ssp k-means"))


def centroid_distance(features: Tensor, clusters: int, distance: str, rng: torch.Generator) -> Tensor:
    """(N,) difficulty of each row of ``features`` (N, D): its distance to the nearest K-Means centroid."""
    rows = prototypes.space(features, distance)
    return prototypes.nearest(rows, prototypes.kmeans(rows, clusters, rng), distance)


def highest_of_classes(rank: Tensor, labels: Tensor, keep_ratio: float, class_balance: float) -> Tensor:
    """Positions kept, ascending: the ceil(keep_ratio * M) highest of ``rank`` (M,), after each class's due."""
    by_rank = rank.argsort(descending=True, stable=True)
    due = torch.zeros(len(rank), dtype=torch.bool)
    for members in by_class(labels, by_rank):
        # floor(class_balance * keep_ratio * n): rounded down, all classes together fit into what is kept
        count = len(members) - validation.portion(1 - class_balance * keep_ratio, len(members))
        due[members[:count]] = True
    order = torch.cat([due.nonzero().flatten(), by_rank[~due[by_rank]]])
    return order[: validation.portion(keep_ratio, len(rank))].sort().values
