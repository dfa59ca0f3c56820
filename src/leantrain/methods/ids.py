"""IDS: intellectual data selection. First the samples near their class's prototype, then the remote ones.

N = size of the data set, D = features of a sample, L = samples of a class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leantrain import check
from leantrain.embed.features import Features
from leantrain.selector import Plan, Run, Selector


@dataclass(kw_only=True, eq=False)
class IDS(Selector):
    """Ranks each class by the distance to its mean in feature space; trains on the near part, later on the remote one.

    Args:
        features: the samples' embedding: a (N, D) tensor, ``Features``, or a callable without arguments that makes one
            and is called when first needed, for example ``embed.snapshot(model, loader)``.
        keep_ratio: alpha, the share of each class that is used. 1 uses everything; useful values are 0.5 to 0.9.
        switch_epoch: gamma, the epoch of the change from EASY to HARD; a float is a share of the training. The
            sources change at 180 of 200 (CIFAR-10), 120 of 200 (CIFAR-100), 14 of 90 (ImageNet).
        start_epoch: epochs at the start that train on everything; a snapshot extractor is called after them.
        per_class: False ranks the data set as a whole around one prototype (detection: a picture holds many classes).

    Cost: one embedding pass; no extra forward pass during the training. Needs class labels unless
    ``per_class=False``.

    Source: the ADONIS and IDS paper, Algorithm 2, Eq. 7, Appendix C. K-Means with one cluster is the mean, so that is
    what we compute. Differs from the paper: nothing.
    """

    features: Tensor | Features | Callable[[], Tensor | Features]
    keep_ratio: float = 0.8
    switch_epoch: int | float = 0.9
    start_epoch: int = 0
    per_class: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.features, Tensor | Features) and not callable(self.features):
            raise TypeError(
                f"features must be a (N, D) tensor, Features or a callable that makes one, not {type(self.features)}."
            )
        check.fraction("keep_ratio", self.keep_ratio)
        if isinstance(self.switch_epoch, float):
            check.fraction("switch_epoch", self.switch_epoch, zero=True)
        else:
            check.integer("switch_epoch", self.switch_epoch, least=0)
        check.integer("start_epoch", self.start_epoch, least=0)

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._distance: Tensor | None = None
        if self.per_class:
            run.need_targets("IDS")
        if isinstance(self.switch_epoch, float):
            run.need_epochs("IDS with switch_epoch as a share of the training")
        if not callable(self.features):
            self._rank(self.features)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch < self.start_epoch:
            return Plan(pool)
        if self._distance is None:
            assert callable(self.features)
            self._rank(self.features())
        assert self._distance is not None
        hard = epoch >= self._switch()
        labels = self.run.need_targets("IDS")[pool] if self.per_class else torch.zeros_like(pool)
        return Plan(pool[nearest_or_remotest(self._distance[pool], labels, self.keep_ratio, hard=hard)])

    def _switch(self) -> float:
        share = isinstance(self.switch_epoch, float)
        return self.switch_epoch * self.run.need_epochs("IDS") if share else self.switch_epoch

    def _rank(self, features: Tensor | Features) -> None:
        values = features.values if isinstance(features, Features) else features
        if isinstance(features, Features):
            features.check_fingerprint(self.run.fingerprint)
        if values.ndim != 2 or len(values) != self.run.size:
            raise ValueError(
                f"features have shape {tuple(values.shape)}; expected ({self.run.size}, D), one row a sample. Did the "
                "data set change since they were made? Embed it again."
            )
        broken = (~values.isfinite().all(dim=1)).nonzero().flatten()
        if len(broken):
            raise ValueError(f"features of {len(broken)} samples are not finite, first {broken[:5].tolist()}.")
        labels = self.run.need_targets("IDS") if self.per_class else torch.zeros(self.run.size, dtype=torch.int64)
        self._distance = prototype_distance(values.float().cpu(), labels)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "features"}

    def state_dict(self) -> dict[str, Any]:
        return {} if self._distance is None else {"distance": self._distance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._distance = state.get("distance")


def prototype_distance(features: Tensor, labels: Tensor) -> Tensor:
    """Euclidean distance (Eq. 7) of each row of ``features`` (N, D) to its class's mean. Returns (N,) float32."""
    distance = torch.empty(len(features))
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        rows = features[members]
        distance[members] = (rows - rows.mean(dim=0)).norm(dim=1)
    return distance


def nearest_or_remotest(distance: Tensor, labels: Tensor, keep_ratio: float, *, hard: bool) -> Tensor:
    """Positions kept, ascending: of each class the first ceil(alpha * L) by distance, and the last (Algorithm 2)."""
    kept = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        order = members[distance[members].argsort(descending=hard, stable=True)]
        first = check.portion(keep_ratio, len(order))
        kept.append(order[:first])
        if first < len(order):
            kept.append(order[-1:])
    return torch.cat(kept).sort().values
