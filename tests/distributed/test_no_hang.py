"""Random trainings on unequal shards with a slow rank: all end, and none trains on a sample twice in an epoch."""

import random
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist

from distributed.processes import on_ranks
from toys import METHODS, SIZE, losses_at, wrapped

ONLINE = [name for name in METHODS if "score" in METHODS[name]().needs]
FREE = [name for name in METHODS if name not in ("iswr", "random-pb", "grad-match-pb")]  # those make their own order


def training(seed: int) -> list[list[int]]:
    """What this rank trains on, epoch by epoch, in a training that ``seed`` makes up."""
    draw = random.Random(seed)
    method = draw.choice(ONLINE if seed % 2 else FREE)
    count, rank = dist.get_world_size(), dist.get_rank()
    owners = draw.choices(range(count), [draw.random() + 0.05 for _ in range(count)], k=SIZE)
    order = draw.sample(range(SIZE), SIZE)
    shard = [index for index in order if owners[index] == rank]
    batch_size, workers = draw.randint(1, 7), draw.choice([0, 0, 0, 1])
    options: dict[str, Any] = {"drop_last": draw.random() < 0.3, "num_workers": workers}
    slow = draw.randrange(count)
    batch_size = min(batch_size, 12 // count)  # methods refuse to plan less than a batch
    loader = wrapped(METHODS[method](), sampler=shard, batch_size=batch_size, epochs=4, seed=seed, **options)
    given: list[list[int]] = []
    for epoch in range(4):
        given.append([])
        for _ in loader:
            if rank == slow:
                time.sleep(0.002)
            indices = loader.indices
            assert len(indices) > 0
            given[-1] += indices.tolist()
            losses = losses_at(epoch, indices)
            logits = torch.nn.functional.one_hot(indices % 4, 4) * losses.unsqueeze(1)
            loader.reduce(losses, logits, indices % 4)
            met = torch.ones(1)
            dist.all_reduce(met)  # as DDP would: who takes one step more waits here
            assert int(met) == count
    return given


def check(seed: int) -> None:
    ranks = on_ranks(2 + seed % 3, training, seed, seconds=60)
    assert all(isinstance(found, list) for found in ranks), (seed, ranks)
    assert any(epoch for found in ranks for epoch in found), seed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))  # two, three and four ranks, methods of both kinds
def test_no_rank_waits_for_ever(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4, 58))
def test_no_rank_waits_for_ever_in_many_more_trainings(seed: int) -> None:
    check(seed)
