"""Samplers under several ranks: one order for all, whoever shards; what cannot be put right all ranks refuse."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from distributed.processes import on_ranks
from leantrain import RS2, Full, InfoBatch, Loader, Plan, Record, Replay, Selector, wrap
from toys import METHODS, Numbers, flat, run_epoch, wrapped


def steps(loader: Loader, epochs: int = 2) -> list[list[int]]:
    return [batch for _ in range(epochs) for batch in run_epoch(loader)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [40, 41, 43])
def test_a_distributed_sampler_is_not_sharded_twice_nor_padded(size: int, shuffle: bool) -> None:
    def rank() -> list[list[int]]:
        dataset = Numbers(size)
        sampler = DistributedSampler(dataset, shuffle=shuffle, seed=5)
        loader = wrapped(Full(), dataset, sampler=sampler, batch_size=4)
        given = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            assert len(loader) == -(-size // 12)
            given.append(flat(run_epoch(loader)))
        return given

    ranks = on_ranks(3, rank)
    for epoch in range(2):
        assert sorted(flat([rank[epoch] for rank in ranks])) == list(range(size))
    assert (ranks[0][0] == ranks[0][1]) is not shuffle  # set_epoch still says which order


def test_shards_of_unequal_length_are_put_together() -> None:
    def rank() -> list[int]:
        own = [i for i in range(41) if (i < 30) == (dist.get_rank() == 0)]  # 30 samples and 11
        return flat(steps(wrapped(Full(), Numbers(41), sampler=own, batch_size=4), 1))

    ranks = on_ranks(2, rank)
    assert sorted(flat(ranks)) == list(range(41))
    assert abs(len(ranks[0]) - len(ranks[1])) <= 1


def test_ranks_that_shuffle_with_other_seeds_follow_the_first() -> None:
    def rank() -> list[int]:
        order = torch.Generator().manual_seed(dist.get_rank())
        return flat(steps(wrapped(RS2(keep_ratio=0.6), shuffle=True, generator=order), 1))

    ranks = on_ranks(2, rank)
    assert len(set(flat(ranks))) == len(flat(ranks)) == 24


def test_samplers_that_overlap_are_refused_on_all_ranks() -> None:
    def rank() -> Any:
        order = torch.Generator().manual_seed(dist.get_rank())
        sampler = WeightedRandomSampler([1.0] * 40, 40, generator=order)
        return steps(wrapped(Full(), sampler=sampler), 1)

    for found in on_ranks(2, rank):
        assert "the WeightedRandomSampler yields orders that overlap without being the same. Seed it alike" in found


def test_wrapped_before_the_ranks_were_there() -> None:
    loader = wrapped(Full())
    for found in on_ranks(2, lambda: steps(loader)):
        assert "torch.distributed has 2 ranks now and had 1 when wrap() was called" in found


def test_a_sampler_that_shards_for_ranks_that_are_not_there() -> None:
    sampler = DistributedSampler(Numbers(), num_replicas=4, rank=1)
    with pytest.raises(ValueError, match=r"shards over 4 ranks, and torch.distributed has 1 here"):
        wrapped(Full(), sampler=sampler)


def test_a_batch_sampler_of_ones_own_is_refused() -> None:
    for found in on_ranks(2, lambda: wrapped(Full(), batch_sampler=[[1, 2], [3, 4]])):
        assert "give the DataLoader batch_size=..., not a batch_sampler of your own (list)" in found


def test_fewer_samples_than_ranks() -> None:
    for found in on_ranks(3, lambda: steps(wrapped(Full(), Numbers(2), batch_size=1))):
        assert "Epoch 0 has 2 samples for 3 ranks" in found


class Undecided(Selector):
    """Plans otherwise on every rank."""

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        rank = dist.get_rank()
        chosen = pool[rank :: 2 + rank]
        return Plan(chosen, torch.full((len(chosen),), 1.0 + rank), None, 1.0 + rank, pool[: 5 + rank])


def test_where_plans_differ_all_follow_the_first() -> None:
    def rank() -> Any:
        loader = wrapped(Undecided(), epochs=1)
        given, factors = [], []
        for _ in loader:
            given += loader.indices.tolist()
            factors.append(loader.lr_factor)
            factors.append(float(loader.reduce(torch.ones(len(loader.indices)))))
        return given, set(factors), (loader.ledger.score_epoch >= 0).nonzero().flatten().tolist()

    ranks = on_ranks(2, rank)
    assert sorted(ranks[0][0] + ranks[1][0]) == list(range(0, 40, 2))
    assert all(factors == {1.0} and refreshed == [0, 1, 2, 3, 4] for _, factors, refreshed in ranks)


def test_a_refresh_smaller_than_the_ranks_is_scored_by_all() -> None:
    class Refresh(Selector):
        def plan(self, epoch: int, pool: Tensor) -> Plan:
            return Plan(pool, refresh=torch.tensor([7, 9]))

    def rank() -> Any:
        loader = wrapped(Refresh(), epochs=1)
        run_epoch(loader)
        return loader.stats.scored, (loader.ledger.score_epoch >= 0).nonzero().flatten().tolist()

    assert on_ranks(3, rank) == [(2, [7, 9])] * 3


@pytest.mark.parametrize("method", ["infobatch", "grad-match-pb"])
def test_one_rank_records_what_all_train_on(tmp_path: Path, method: str) -> None:
    def rank() -> list[list[int]]:
        loader = wrapped(Record(METHODS[method](), tmp_path), shuffle=True, batch_size=4, epochs=3)
        return [flat(run_epoch(loader)) for _ in range(3)]

    recorded = on_ranks(2, rank)
    loader = wrapped(Replay(path=tmp_path), shuffle=True, batch_size=8, epochs=3)
    for epoch in range(3):
        assert sorted(flat(run_epoch(loader))) == sorted(recorded[0][epoch] + recorded[1][epoch])


def test_a_look_at_the_length_waits_for_nobody() -> None:
    """A progress bar on rank 0 asks for it, and only there."""

    def rank() -> int:
        loader = wrapped(InfoBatch(), epochs=2)
        length = len(loader) if dist.get_rank() == 0 else 0
        run_epoch(loader)
        return length

    assert on_ranks(2, rank) == [5, 0]


def test_one_dataloader_may_be_wrapped_for_each_rank_with_workers() -> None:
    def rank() -> list[int]:
        loader = wrap(DataLoader(Numbers(), batch_size=4, num_workers=2), Full())
        return flat([loader.indices.tolist() for _ in loader])

    assert sorted(flat(on_ranks(2, rank))) == list(range(40))


@pytest.mark.parametrize(("size", "one", "two"), [(17, [8, 8, 1], [8, 9]), (18, [8, 8, 2], [8, 8, 2])])
def test_a_leftover_of_fewer_than_one_a_rank_joins_the_batch_before(size: int, one: list[int], two: list[int]) -> None:
    def sizes(batch_size: int) -> list[int]:
        loader = wrap(DataLoader(range(size), batch_size), Full(), epochs=1)
        return [len(loader.indices) for _ in loader]

    assert sizes(8) == one
    assert [sum(parts) for parts in zip(*on_ranks(2, sizes, 4), strict=True)] == two
