"""Rankings that hold for the whole training, and what they keep of a pool.

N = size of the data set, M = samples of the pool.
"""

import numpy as np
import torch
from torch import Tensor

from leantrain.utils import validation


def ranks(scores: Tensor, rng: torch.Generator) -> Tensor:
    """Rank of each of ``scores`` (N,), 0 for the lowest; equal scores stand in random order. Returns (N,) int64."""
    shuffled = torch.randperm(len(scores), generator=rng)
    order = shuffled[scores[shuffled].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return rank


def by_class(labels: Tensor, order: Tensor | None = None) -> tuple[Tensor, ...]:
    """For each class of ``labels`` (M,), ascending, its positions: in ``order`` (M,) where given, else ascending."""
    keys = (labels if order is None else labels[order]).numpy()
    if len(keys) == 0:
        return ()
    if keys.min() >= 0 and keys.max() <= np.iinfo(np.uint16).max:
        keys = keys.astype(np.uint16)  # sorted by radix
    members = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.diff(keys[members])) + 1
    positions = torch.from_numpy(members)
    return (positions if order is None else order[positions]).tensor_split(firsts.tolist())


def lowest(values: Tensor, count: int) -> Tensor:
    """Whether each of ``values`` (M,) is among the ``count`` lowest, ties by position, NaN last. Returns (M,) bool.

    By partition: no more is sorted than needed, which of 100 million values takes seconds instead of a minute.
    """
    if count == 0:
        return torch.zeros(len(values), dtype=torch.bool)
    values = values.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    limit = values.kthvalue(count).values
    kept = values < limit
    kept[(values == limit).nonzero().flatten()[: count - int(kept.sum())]] = True
    return kept


def highest(rank: Tensor, pool: Tensor, keep_ratio: float, *, skip: float = 0.0) -> Tensor:
    """The ceil(keep_ratio * M) of ``pool`` (M,) with the highest ``rank`` (N,), after the floor(skip * M) highest.

    Ascending. Ranks are all different.
    """
    descending = -rank[pool]
    skipped = len(pool) - validation.portion(1 - skip, len(pool))
    last = min(skipped + validation.portion(keep_ratio, len(pool)), len(pool))
    return pool[lowest(descending, last) & ~lowest(descending, skipped)].sort().values
