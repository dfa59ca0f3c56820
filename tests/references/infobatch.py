"""InfoBatch, Eq. 3 and 4: below-mean samples may be pruned; the survivors of them weigh more."""

import math
from fractions import Fraction


def easy(losses: list[float]) -> list[int]:
    """Samples that may be pruned; NaN marks one that was never seen."""
    seen = [loss for loss in losses if not math.isnan(loss)]
    if not seen:
        return []
    mean = math.fsum(seen) / len(seen)
    return [i for i, loss in enumerate(losses) if not math.isnan(loss) and loss < mean]


def kept_of_easy(count: int, prune_ratio: str) -> int:
    return math.ceil((1 - Fraction(prune_ratio)) * count)


def pruning_epochs(epochs: int, delta: str) -> list[int]:
    return [epoch for epoch in range(epochs) if epoch < Fraction(delta) * epochs]
