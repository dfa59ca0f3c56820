"""Which samples a DataLoader can give at all, as far as its sampler tells without being drawn from."""

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler


def sampler_pool(loader: DataLoader[Any]) -> Tensor | None:
    """(M,) int64, ascending: the samples that ``loader`` can give; None where only drawing them tells."""
    if type(loader.batch_sampler) is not BatchSampler:
        return None
    sampler: Any = loader.batch_sampler.sampler
    kind = type(sampler)
    if kind in (RandomSampler, SequentialSampler):
        return torch.arange(len(sampler.data_source))
    if kind is DistributedSampler:
        return torch.arange(len(loader.dataset))  # pyright: ignore[reportArgumentType]
    if kind is SubsetRandomSampler:
        return integers(sampler.indices).unique()
    if kind is WeightedRandomSampler:
        return sampler.weights.nonzero().flatten()
    return None


def sampler_part(loader: DataLoader[Any]) -> Tensor | None:
    """The same; None, too, where it is the whole data set."""
    pool = sampler_pool(loader)
    return None if pool is None or len(pool) >= len(loader.dataset) else pool  # pyright: ignore[reportArgumentType]


def integers(indices: Iterable[Any]) -> Tensor:
    """(M,) int64 from indices of any integer kind. TypeError for others."""
    try:
        return torch.tensor([*map(operator.index, indices)], dtype=torch.int64)
    except TypeError as error:
        raise TypeError(f"wrap() needs a sampler of integer indices: {error}") from error
