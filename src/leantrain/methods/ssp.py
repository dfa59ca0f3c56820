"""SSP: self-supervised prototypes. Keeps the samples that are far from every cluster of the embedding.

N = size of the data set, D = features of a sample, K = clusters, M = samples of the pool.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.methods import _sample_inputs
from leantrain.rng import generator
from leantrain.solvers import prototypes
from leantrain.solvers.ranking import by_class, ranks
from leantrain.utils import validation
from leantrain.utils.memory import Part, rows


@dataclass(kw_only=True, eq=False)
class SSP(Selector):
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

    Differs from the paper: with the cosine distance, K-Means is Euclidean on features scaled to length 1, and only the
    final distances are cosines (spherical K-Means would scale the centroids at every step as well). A sample whose
    features are all zero has distance 1. The paper does not say how it holds the class balance; ours gives each class
    its floor(class_balance * keep_ratio * n) highest ranks first and fills up by rank. The authors' code is not
    published. On several threads scikit-learn sums in no fixed order: two runs agree up to rounding.
    """

    features: _sample_inputs.Rows
    keep_ratio: float = 0.8
    clusters: int | None = None
    distance: Literal["cosine", "euclidean"] = "cosine"
    hard: bool = True
    class_balance: float = 0.0
    start_epoch: int = 0

    def __post_init__(self) -> None:
        _sample_inputs.check_source("features", self.features)
        validation.fraction("keep_ratio", self.keep_ratio)
        if self.clusters is not None:
            validation.integer("clusters", self.clusters, least=1)
        validation.one_of("distance", self.distance, ["cosine", "euclidean"])
        validation.fraction("class_balance", self.class_balance, zero=True)
        validation.integer("start_epoch", self.start_epoch, least=0)

    def setup(self, run: Run) -> None:
        super().setup(run)
        prototypes.need_kmeans()  # at the start, not after start_epoch epochs
        self._distance: Tensor | None = None
        self._rank: Tensor | None = None
        if self.clusters is None and run.targets is None:
            raise ValueError(
                "SSP with clusters=None makes one cluster a class, and no labels were found. Say how many: "
                "SSP(clusters=100), or pass labels: wrap(loader, ..., targets=labels)."
            )
        if self.clusters is not None and self.clusters > run.size:
            raise ValueError(f"clusters={self.clusters} is more than the {run.size} samples. Use fewer clusters.")
        if self.class_balance:
            run.need_targets("SSP with class_balance")
        if not callable(self.features):
            self._rank = self._make_rank(self._measure())

    def memory(self, run: Run) -> list[Part]:
        parts, width = _sample_inputs.rows_to_hold("SSP", self.features, run)
        if width == 0 or (self.clusters is None and run.targets is None):  # the latter is refused by setup
            return parts
        work = prototypes.kmeans_bytes(run.size, width, self._count(run))
        if self.distance == "cosine":
            parts.append(rows("SSP's features scaled to length 1", run.size, width))
        return [*parts, Part("SSP's K-Means", work)]

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch < self.start_epoch:
            return Plan(pool)
        if self._rank is None:
            self._rank = self._make_rank(self._measure())
        labels = self.run.need_targets("SSP")[pool] if self.class_balance else torch.zeros_like(pool)
        return Plan(pool[highest_of_classes(self._rank[pool], labels, self.keep_ratio, self.class_balance)])

    def _count(self, run: Run) -> int:
        return self.clusters or len(run.need_targets("SSP").unique())

    def _measure(self) -> Tensor:
        features = _sample_inputs.rows("features", self.features, self.run)
        rng = generator(self.run.seed, 0, "ssp k-means")
        return centroid_distance(features, self._count(self.run), self.distance, rng)

    def _make_rank(self, distance: Tensor) -> Tensor:
        self._distance = distance
        return ranks(distance if self.hard else -distance, generator(self.run.seed, 0, "ssp"))

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "features"}

    def distances(self) -> Tensor | None:
        return self._distance

    def state_dict(self) -> dict[str, Any]:
        return {} if self._distance is None else {"distance": self._distance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._distance = state.get("distance")
        self._rank = None if self._distance is None else self._make_rank(self._distance)


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
