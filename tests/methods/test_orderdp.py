"""OrderDP against the exact chance of each rank (references/orderdp.py)."""

import math

import pytest
import torch
from torch import Tensor

from leantrain import Ledger
from leantrain.methods.orderdp import OrderDP
from references.orderdp import chance
from toys import SIZE, run_epoch, setup, wrapped


def used(losses: Tensor, *, epoch: int = 1, seed: int = 0, **settings: float) -> list[int]:
    ledger = Ledger(len(losses))
    ledger.loss = losses
    selector = setup(OrderDP(**settings), size=len(losses), ledger=ledger, seed=seed)
    return selector.plan(epoch, torch.arange(len(losses))).indices.tolist()


def test_each_rank_has_its_chance() -> None:
    """20 samples, a subset of 12, 6 kept; 3,000 independent epochs."""
    losses = torch.rand(20, generator=torch.Generator().manual_seed(3))
    times = torch.zeros(20)
    for epoch in range(3000):
        kept = used(losses, epoch=epoch, keep_ratio=0.3, subset_ratio=0.6)
        assert len(kept) == len(set(kept)) == 6
        times[kept] += 1
    ranks = [int((losses > loss).sum()) for loss in losses]
    wanted = torch.tensor([float(chance(rank, 20, 12, 6)) for rank in ranks])
    assert float(wanted.sum()) == pytest.approx(6)
    spread = (wanted * (1 - wanted) / 3000).sqrt()
    assert ((times / 3000 - wanted).abs() <= 5 * spread + 1e-9).all()


@pytest.mark.parametrize(("keep_ratio", "subset_ratio", "count"), [(0.6, 0.8, 60), (0.55, 0.55, 55), (0.001, 1.0, 1)])
def test_the_number_kept_is_exact(keep_ratio: float, subset_ratio: float, count: int) -> None:
    losses = torch.rand(100)
    losses[::7] = math.nan
    for epoch in range(5):
        assert len(used(losses, epoch=epoch, keep_ratio=keep_ratio, subset_ratio=subset_ratio)) == count


def test_the_whole_as_subset_leaves_the_ranking_alone() -> None:
    losses = torch.tensor([0.5, 3.0, math.nan, 1.0, 2.0, 0.0])
    assert used(losses, keep_ratio=0.5, subset_ratio=1.0) == [1, 2, 4]
    assert used(losses, keep_ratio=0.3, subset_ratio=1.0) == [1, 2]


def test_ties_and_the_first_epoch_fall_at_random() -> None:
    """By position, the first half of a data set sorted by class would always win."""
    for losses in (torch.ones(30), torch.full((30,), math.nan)):
        times = torch.zeros(30)
        for seed in range(400):
            times[used(losses, seed=seed, keep_ratio=0.5, subset_ratio=1.0)] += 1
        assert ((times / 400 - 0.5).abs() < 5 * math.sqrt(0.25 / 400)).all()


def test_each_epoch_and_each_seed_draws_anew() -> None:
    losses = torch.rand(SIZE)
    plans = {tuple(used(losses, epoch=epoch, seed=seed)) for epoch in range(4) for seed in range(2)}
    assert len(plans) == 8
    assert used(losses, seed=1) == used(losses, seed=1)


def test_a_single_sample_and_a_pool() -> None:
    assert used(torch.tensor([math.nan])) == [0]
    pool = torch.arange(0, SIZE, 3)
    kept = setup(OrderDP()).plan(0, pool).indices
    assert len(kept) == 9  # ceil(0.6 * 14)
    assert torch.isin(kept, pool).all()


def test_in_a_loader_every_epoch_is_as_long() -> None:
    loader = wrapped(OrderDP(keep_ratio=0.4, subset_ratio=0.7))
    assert [sum(map(len, run_epoch(loader))) for _ in range(6)] == [16] * 6


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"keep_ratio": 0}, r"keep_ratio=0 is outside \(0, 1\]"),
        ({"subset_ratio": 80}, r"subset_ratio=80 is outside \(0, 1\].* pass 0\.8"),
        ({"keep_ratio": 0.9}, r"keep_ratio=0.9 is more than subset_ratio=0.8.*Raise subset_ratio"),
    ],
)
def test_bad_settings(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        OrderDP(**settings)
