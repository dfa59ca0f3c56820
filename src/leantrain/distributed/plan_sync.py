"""What all ranks must hold alike before an epoch starts: its plan, and the order of its samples. M = samples planned.

Each rank works them out by itself. They are compared, and where they differ rank 0's are used.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from leantrain.core.plan import Plan
from leantrain.distributed.process_group import Ranks, world

NOTHING = torch.empty(0, dtype=torch.int64)


def agreed_plan(plan: Plan, ranks: Ranks) -> Plan:
    """The plan of all ranks. They differ where a method was given something that is not quite equal on all of them."""
    sizes = NOTHING if plan.batch_sizes is None else torch.tensor(plan.batch_sizes, dtype=torch.int64)
    weights = torch.empty(0, dtype=torch.float32) if plan.weights is None else plan.weights.float()
    refresh = NOTHING if plan.refresh is None else plan.refresh
    given = [plan.weights is not None, plan.batch_sizes is not None, plan.refresh is not None, plan.lr_factor]
    parts = plan.indices, weights, sizes, refresh, torch.tensor(given, dtype=torch.float64)
    if ranks.same(*parts):
        return plan
    indices, weights, sizes, refresh, facts = (ranks.first(part) for part in parts)
    weighted, cut, refreshes, lr_factor = facts.tolist()
    return replace(
        plan,
        indices=indices,
        weights=weights if weighted else None,
        batch_sizes=tuple(sizes.tolist()) if cut else None,
        lr_factor=lr_factor,
        refresh=refresh if refreshes else None,
    )


def agreed_order(order: Tensor, sampler: Any, ranks: Ranks) -> Tensor:
    """One order for all ranks, of what the sampler of each yielded: ``order`` (M,) int64.

    The same on all ranks: it is that. A ``RandomSampler`` that every rank seeds otherwise: rank 0's. Shards, as a
    ``DistributedSampler`` deals them out: put together again, without the samples that it repeats to even them out.

    Raises:
        ValueError: on all ranks, where samplers overlap in another way.
    """
    if ranks.same(order):
        return order
    if type(sampler) is RandomSampler:
        return ranks.first(order)
    shards = ranks.gather(order)
    dealt = torch.full((max(map(len, shards)), len(shards)), -1)
    for rank, shard in enumerate(shards):
        dealt[: len(shard), rank] = shard
    joined = dealt[dealt >= 0]
    first = _first_places(joined)
    if len(joined) - len(first) >= ranks.count:
        raise ValueError(
            f"On {ranks.count} ranks the {type(sampler).__name__} yields orders that overlap without being the same. "
            "Seed it alike on all ranks, use shuffle=True, or give each rank its shard: DistributedSampler(dataset)."
        )
    return joined[first]


def check_ranks(loader: DataLoader[Any], ranks: Ranks) -> None:
    """Raise where the training's ranks are not those that ``wrap`` saw, or the loader does not go with them."""
    if world() != ranks.count:
        raise RuntimeError(
            f"torch.distributed has {world()} ranks now and had {ranks.count} when wrap() was called: every rank would "
            "train on all samples. Call wrap() after init_process_group(), on every rank; with Lightning, in "
            "train_dataloader()."
        )
    if ranks.count > 1 and type(loader.batch_sampler) is not BatchSampler:
        raise ValueError(
            f"On several ranks wrap() makes the batches: give the DataLoader batch_size=..., not a batch_sampler of "
            f"your own ({type(loader.batch_sampler).__name__})."
        )
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, DistributedSampler) and sampler.num_replicas != ranks.count:
        raise ValueError(
            f"The DistributedSampler shards over {sampler.num_replicas} ranks, and torch.distributed has {ranks.count}"
            " here. Call wrap() after init_process_group(), on every rank; it shares the samples out itself."
        )


def _first_places(indices: Tensor) -> Tensor:
    """Ascending positions at which an index stands for the first time."""
    _, order = indices.sort(stable=True)
    fresh = torch.ones(len(indices), dtype=torch.bool)
    fresh[1:] = indices[order][1:] != indices[order][:-1]
    return order[fresh].sort().values
