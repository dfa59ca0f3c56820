"""ISWR against proportional probabilities and a walk along their sum (references/iswr.py)."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.iswr as reference
from leantrain import EL2N, RPD, RS2, ClassFloor, Ledger, Plan
from leantrain.methods.iswr import ISWR, draw, probabilities
from leantrain.rng import generator
from toys import SIZE, flat, losses_at, run_epoch, setup, wrapped

LOSS = st.one_of(st.just(math.nan), st.just(0.0), st.floats(0, 50, width=32))


def plan(losses: list[float], *, epoch: int = 1, seed: int = 0, unbiased: bool = False) -> Plan:
    ledger = Ledger(len(losses))
    ledger.loss = torch.tensor(losses)
    selector = setup(ISWR(unbiased=unbiased), size=len(losses), ledger=ledger, seed=seed)
    return selector.plan(epoch, torch.arange(len(losses)))


@given(losses=st.lists(LOSS, min_size=1, max_size=40))
def test_probabilities_follow_the_losses(losses: list[float]) -> None:
    ours = probabilities(torch.tensor(losses))
    assert ours.dtype == torch.float64
    assert ours.tolist() == pytest.approx(reference.probabilities(losses), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("losses", [[math.nan] * 4, [0.0] * 4, [0.0, math.nan, 0.0, math.nan], [-1.0, -2.0, 0.0, -1.0]])
def test_uniform_where_nothing_is_to_be_told_apart(losses: list[float]) -> None:
    assert probabilities(torch.tensor(losses)).tolist() == [0.25] * 4


def test_a_sample_never_seen_counts_as_average() -> None:
    assert probabilities(torch.tensor([1.0, math.nan, 3.0])).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])


@given(losses=st.lists(LOSS, min_size=1, max_size=40), seed=st.integers(0, 99))
def test_draws_fall_where_their_points_do(losses: list[float], seed: int) -> None:
    p = reference.probabilities(losses)
    points = torch.rand(60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    ours = draw(torch.tensor(p, dtype=torch.float64), 60, torch.Generator().manual_seed(seed))
    assert ours.tolist() == sorted(reference.draw(p, points))


def test_a_negative_loss_counts_as_zero() -> None:
    assert probabilities(torch.tensor([-2.0, 1.0, 3.0])).tolist() == [0, 0.25, 0.75]


def test_nothing_falls_where_the_probability_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.zeros(count, dtype=torch.float64))
    p = torch.tensor([0.0, 0.0, 0.5, 0.5], dtype=torch.float64)
    assert draw(p, 2, torch.Generator()).tolist() == [2, 2]


def test_the_draws_come_in_an_order_of_chance() -> None:
    losses = [0.1 * (i + 1) for i in range(40)]
    points = torch.rand(40, generator=generator(3, 2, "iswr"), dtype=torch.float64).tolist()
    draws = reference.draw(reference.probabilities(losses), points)
    order = torch.randperm(40, generator=generator(3, 2, "iswr order")).tolist()
    found = plan(losses, epoch=2, seed=3).indices.tolist()
    assert found == reference.dealt(draws, order)
    assert Counter(found) == Counter(draws)


def test_batches_of_data_sorted_by_class_are_as_mixed_as_those_of_plain_training() -> None:
    """With 10 classes and batches of 20 of equal losses, plain shuffling gives 10 * (1 - 0.9 ** 20) = 8.8 classes."""
    classes = torch.arange(1000) // 100
    found = [
        len(classes[batch].unique())
        for epoch in range(3)
        for batch in plan([1.0] * 1000, epoch=epoch).indices.split(20)
    ]
    assert abs(sum(found) / len(found) - 10 * (1 - 0.9**20)) < 0.3


def test_a_composition_within_the_draws_is_shuffled_too() -> None:
    """The plan's order holds where a sample stands more than once, and many methods plan in the data set's order."""
    for right in (RS2(keep_ratio=0.8), RPD(keep_ratio=0.9), EL2N(scores=torch.arange(1000.0), prune_ratio=0.2)):
        found = setup(ISWR() | right, size=1000).plan(0, torch.arange(1000)).indices
        assert len(found.unique()) < len(found)
        assert min(len((part // 100).unique()) for part in found.split(20)) >= 5


def test_a_class_floor_mixes_in_what_it_adds() -> None:
    targets = torch.arange(1000) // 100
    losses = torch.ones(1000).where(targets < 8, 1e-9)  # two classes are hardly drawn
    ledger = Ledger(1000)
    ledger.loss = losses
    selector = setup(ClassFloor(ISWR(unbiased=True), 0.5), size=1000, targets=targets, ledger=ledger)
    found = selector.plan(1, torch.arange(1000))
    rare = (targets[found.indices] >= 8).nonzero().flatten()
    assert len(rare) >= 100
    assert abs(float(rare.double().mean()) / len(found.indices) - 0.5) < 0.1
    drawn = setup(ISWR(unbiased=True), size=1000, ledger=ledger).plan(1, torch.arange(1000))
    places = torch.ones(len(found.indices), dtype=torch.bool).index_fill_(0, rare, False)
    assert found.indices[places].tolist() == drawn.indices[targets[drawn.indices] < 8].tolist()  # as they were
    assert (found.weights[rare] == 1).sum() >= 100


def test_each_sample_is_drawn_in_proportion() -> None:
    losses = [0.0, 0.5, 1.0, math.nan, 4.0, 0.0]
    wanted = torch.tensor(reference.probabilities(losses))
    times = torch.zeros(6)
    for seed in range(4000):
        times += torch.bincount(plan(losses, seed=seed).indices, minlength=6)
    draws = 6 * 4000
    assert times.sum() == draws
    spread = (wanted * (1 - wanted) / draws).sqrt()
    assert ((times / draws - wanted).abs() <= 5 * spread).all()
    assert times[0] == times[5] == 0


def test_more_categories_than_multinomial_takes() -> None:
    size = 2**24 + 8
    p = torch.zeros(size, dtype=torch.float64)
    p[-1] = p[5] = 0.5
    assert set(draw(p, 100, torch.Generator().manual_seed(0)).tolist()) == {5, size - 1}


@pytest.mark.parametrize("losses", [[math.nan] * 30, [0.1 * (i + 1) for i in range(29)] + [math.nan]])
def test_unbiased_weights_keep_the_expected_mean(losses: list[float]) -> None:
    p = reference.probabilities(losses)
    terms = torch.linspace(-3, 5, 30)  # what is averaged need not be the loss
    means = []
    for seed in range(3000):
        found = plan(losses, seed=seed, unbiased=True)
        assert found.weights is not None
        means.append(float((found.weights * terms[found.indices]).mean()))
        if seed < 5:
            weights = reference.weights(p)
            assert found.weights.tolist() == pytest.approx([weights[i] for i in found.indices.tolist()])
    standard_error = float(torch.tensor(means).std()) / math.sqrt(3000)
    assert standard_error > 0
    assert abs(sum(means) / 3000 - float(terms.mean())) < 4.5 * standard_error


def test_an_epoch_is_as_long_as_the_data_and_draws_by_the_losses_of_training() -> None:
    loader = wrapped(ISWR(unbiased=True), shuffle=True)
    for epoch in range(4):
        before = loader.ledger.loss.tolist()
        weights = reference.weights(reference.probabilities(before))
        drawn = []
        for _ in loader:
            losses = losses_at(epoch, loader.indices)
            wanted = sum(weights[i] * loss for i, loss in zip(loader.indices.tolist(), losses.tolist(), strict=True))
            assert float(loader.reduce(losses)) == pytest.approx(wanted / len(losses), rel=1e-5)
            drawn += loader.indices.tolist()
        assert len(drawn) == SIZE
        assert len(set(drawn)) < SIZE
        for i in range(SIZE):
            last = float(losses_at(epoch, torch.tensor(i))) if i in drawn else before[i]
            assert loader.ledger.loss[i].item() == pytest.approx(last, nan_ok=True)


def test_draws_within_the_pool_of_another() -> None:
    loader = wrapped(RPD(keep_ratio=0.5) | ISWR())
    pool = set(setup(RPD(keep_ratio=0.5)).plan(0, torch.arange(SIZE)).indices.tolist())
    for _ in range(3):
        drawn = flat(run_epoch(loader))
        assert len(drawn) == SIZE // 2
        assert set(drawn) < pool
    found = setup(ISWR(unbiased=True)).plan(0, torch.arange(7, 17))
    assert found.weights is not None
    assert found.weights.tolist() == pytest.approx([1] * 10)


def test_same_seed_same_draws() -> None:
    losses = torch.rand(40).tolist()
    first = plan(losses).indices.tolist()
    torch.manual_seed(1)  # global streams do not matter
    assert plan(losses).indices.tolist() == first
    assert plan(losses, seed=1).indices.tolist() != first
    assert plan(losses, epoch=2).indices.tolist() != first
    assert ISWR().state_dict() == {}  # all it knows is in the ledger


def test_a_data_set_of_one() -> None:
    found = plan([0.0], unbiased=True)
    assert found.indices.tolist() == [0]
    assert found.weights is not None
    assert found.weights.tolist() == [1.0]


def test_settings() -> None:
    assert ISWR().settings() == {"unbiased": False}
    with pytest.raises(TypeError, match="unbiased='yes' must be True or False"):
        ISWR(unbiased="yes")  # pyright: ignore
