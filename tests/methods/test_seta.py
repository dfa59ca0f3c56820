"""SeTa against Lloyd's algorithm value by value (references/seta.py)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import references.seta as reference
from leantrain import Ledger
from leantrain.methods.seta import SeTa, kmeans
from toys import SIZE, run_epoch, setup, wrapped

# Quarters: sums are exact in any order, so that ties fall as in the reference.
VALUES = st.lists(st.integers(0, 40).map(lambda n: n / 4), min_size=1, max_size=60)


def known(losses: Tensor, **settings: float) -> SeTa:
    """A selector in a run whose ledger holds ``losses``."""
    ledger = Ledger(len(losses))
    ledger.loss = losses
    return setup(SeTa(**settings), size=len(losses), ledger=ledger)  # pyright: ignore[reportReturnType]


def used(selector: SeTa, epoch: int) -> list[int]:
    return selector.plan(epoch, torch.arange(selector.run.size)).indices.tolist()


@given(values=VALUES, groups=st.integers(1, 7))
def test_clusters(values: list[float], groups: int) -> None:
    assert kmeans(torch.tensor(values), groups).tolist() == reference.clusters(values, groups)


def test_clusters_that_stand_apart_are_found() -> None:
    values = torch.cat([torch.rand(20) + centre for centre in (30.0, 0.0, 100.0, 10.0)])
    assert kmeans(values, 4).tolist() == [2] * 20 + [0] * 20 + [3] * 20 + [1] * 20


def test_a_cluster_that_both_neighbours_empty_is_left_out() -> None:
    times = {12.0: 1, 13.0: 1, 16.0: 1, 23.0: 100, 24.0: 100, 34.0: 30, 38.0: 1, 39.0: 1, 40.0: 100, 43.0: 1}
    values = [value for value, count in times.items() for _ in range(count)]
    assert kmeans(torch.tensor(values), 3).tolist() == reference.clusters(values, 3)
    assert max(reference.clusters(values, 3)) == 1


@pytest.mark.parametrize(("groups", "window", "width"), [(5, 0.9, 4), (5, 0.6, 3), (4, 0.25, 1), (3, 1.0, 3)])
def test_the_window_slides_from_easy_to_hard_and_starts_over(groups: int, window: float, width: int) -> None:
    selector = known(torch.arange(60) // (60 // groups) * 10.0, prune_ratio=0, groups=groups, window=window, delta=1)
    size = 60 // groups
    assert used(selector, 0) == list(range(60))
    for epoch, places in enumerate(reference.windows(groups, width, 9), start=1):
        assert used(selector, epoch) == [i for i in range(60) if i // size in places]


def test_random_pruning_comes_first_and_stays_to_the_end() -> None:
    """The clusters are those of the drawn part alone; the last epochs use that part whole."""
    losses = torch.rand(200, generator=torch.Generator().manual_seed(2)).exp()
    pruned = known(losses, prune_ratio=0.25, groups=5, window=0.6, delta=0.8)
    drawn = known(losses, prune_ratio=0.25, groups=5, window=1.0, delta=0.8)
    for epoch in range(10):
        part = used(drawn, epoch)
        assert len(part) == 150
        if epoch in (0, 8, 9):
            assert used(pruned, epoch) == part
        else:
            cluster = reference.clusters([float(losses[i]) for i in part], 5)
            places = reference.windows(5, 3, 10)[epoch - 1]
            assert used(pruned, epoch) == [i for i, k in zip(part, cluster, strict=True) if k in places]


def test_each_epoch_and_each_seed_draws_anew() -> None:
    plans = {
        tuple(setup(SeTa(prune_ratio=0.5), seed=seed).plan(epoch, torch.arange(SIZE)).indices.tolist())
        for seed in range(2)
        for epoch in range(4)
    }
    assert len(plans) == 8


def test_never_seen_samples_stay() -> None:
    losses = torch.tensor([math.nan, 1.0, 2.0, 3.0, math.nan, 4.0])
    assert used(known(losses, prune_ratio=0, groups=4, window=0.25), 1) == [0, 1, 4]
    assert used(known(torch.full((5,), math.nan), prune_ratio=0), 3) == list(range(5))


def test_equal_losses_are_neither_easy_nor_hard() -> None:
    assert used(known(torch.ones(7), prune_ratio=0, groups=5, window=0.2), 2) == list(range(7))
    assert used(known(torch.ones(1)), 2) == [0]


def test_a_pool_is_kept_to() -> None:
    pool = torch.arange(0, SIZE, 3)
    selector = known(torch.rand(SIZE))
    assert set(selector.plan(2, pool).indices.tolist()) < set(pool.tolist())


def test_in_a_loader() -> None:
    loader = wrapped(SeTa(prune_ratio=0.2), epochs=8)
    sizes = [sum(map(len, run_epoch(loader))) for _ in range(8)]
    assert sizes[0] == sizes[7] == 32
    assert all(0 < size < 32 for size in sizes[1:7])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"prune_ratio": 1}, r"prune_ratio=1 is outside \[0, 1\)"),
        ({"groups": 0}, "groups=0 must be at least 1"),
        ({"window": 0}, r"window=0 is outside \(0, 1\]"),
        ({"window": 0.09}, r"window=0.09 of groups=5 is less than one group. Raise window to 0.2 or more"),
        ({"delta": 2}, r"delta=2 is outside \[0, 1\]"),
    ],
)
def test_bad_settings(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SeTa(**settings)  # pyright: ignore[reportArgumentType]


def test_the_length_of_the_training_is_needed() -> None:
    with pytest.raises(ValueError, match=r"SeTa depends on the length of the training"):
        setup(SeTa(), epochs=None)
