"""InfoBatch against Eq. 3 and 4 (references/infobatch.py)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.infobatch as reference
from leantrain import InfoBatch, Ledger, Plan
from toys import SIZE, Numbers, run_epoch, setup, wrapped

LOSS = st.one_of(st.just(math.nan), st.floats(0, 50, width=32))


def plan(losses: list[float], *, epoch: int = 1, seed: int = 0, **settings: float) -> Plan:
    ledger = Ledger(len(losses))
    ledger.loss = torch.tensor(losses)
    selector = setup(InfoBatch(**settings), size=len(losses), ledger=ledger, seed=seed)
    return selector.plan(epoch, torch.arange(len(losses)))


def by_sample(plan: Plan, size: int) -> list[float]:
    """Each sample's weight, 0 for those left out."""
    assert plan.weights is not None
    assert len(plan.indices.unique()) == len(plan.indices) == len(plan.weights)
    return torch.zeros(size).index_copy_(0, plan.indices, plan.weights).tolist()


@given(
    losses=st.lists(LOSS, min_size=1, max_size=60),
    prune_ratio=st.sampled_from(["0", "0.3", "0.5", "0.55", "0.9"]),
)
def test_who_may_go_how_many_stay_and_their_weight(losses: list[float], prune_ratio: str) -> None:
    weights = by_sample(plan(losses, prune_ratio=float(prune_ratio)), len(losses))
    easy = reference.easy(losses)
    stay = reference.kept_of_easy(len(easy), prune_ratio)
    assert all(weights[i] == 1 for i in range(len(losses)) if i not in easy)
    kept = [weights[i] for i in easy if weights[i] > 0]
    assert len(kept) == stay
    assert kept == pytest.approx([len(easy) / stay] * stay if stay else [])


def test_half_of_many_weigh_double() -> None:
    weights = by_sample(plan([0.0] * 600 + [1.0] * 400), 1000)
    assert sorted(weights) == [0.0] * 300 + [1.0] * 400 + [2.0] * 300


@pytest.mark.parametrize("prune_ratio", [0.3, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (0.5, 0.8))])
def test_the_weighted_sum_is_unbiased(prune_ratio: float) -> None:
    losses = (torch.rand(50, generator=torch.Generator().manual_seed(1)) ** 3).tolist()
    terms = torch.linspace(-3, 5, 50)  # what is summed need not be the loss
    sums = torch.tensor(
        [
            float((torch.tensor(by_sample(plan(losses, prune_ratio=prune_ratio, seed=s), 50)) * terms).sum())
            for s in range(4000)
        ]
    )
    standard_error = float(sums.std()) / math.sqrt(4000)
    assert standard_error > 0
    assert abs(float(sums.mean() - terms.sum())) < 4.5 * standard_error


@pytest.mark.parametrize(("epochs", "delta"), [(30, "0.875"), (90, "0.875"), (100, "0.875"), (8, "0.5"), (3, "0")])
def test_the_last_epochs_use_everything(epochs: int, delta: str) -> None:
    ledger = Ledger(20)
    ledger.loss = torch.linspace(0, 1, 20)
    selector = setup(InfoBatch(delta=float(delta)), size=20, epochs=epochs, ledger=ledger)
    pruned = []
    for epoch in range(epochs):
        found = selector.plan(epoch, torch.arange(20))
        if len(found.indices) < 20:
            pruned.append(epoch)
        else:
            assert found.weights is None or (found.weights == 1).all()
    assert pruned == reference.pruning_epochs(epochs, delta)


def test_weights_end_with_the_pruning() -> None:
    """epochs * delta = 26.25: sample weights of 2 must not live on."""
    loader = wrapped(InfoBatch(), epochs=30)
    for epoch in range(30):
        means = []
        for _ in loader:
            means.append(float(loader.reduce(torch.ones(len(loader.indices)))))
            loader.ledger.loss = torch.arange(float(SIZE))
        if epoch in (5, 26):
            assert max(means) > 1
        if epoch > 26:
            assert means == [1.0] * 10


def test_each_epoch_draws_anew() -> None:
    losses = torch.linspace(0, 1, 40).tolist()
    drawn = {tuple(plan(losses, epoch=epoch).indices.sort().values.tolist()) for epoch in range(5)}
    assert len(drawn) == 5


def test_never_seen_samples_stay() -> None:
    weights = by_sample(plan([math.nan, 0.1, 0.2, 0.3, 9.0, math.nan] * 5, prune_ratio=0.9), 30)
    assert all(weights[i] == 1 for i in range(0, 30, 6))
    assert all(weights[i] == 1 for i in range(5, 30, 6))


def test_the_first_epoch_is_whole() -> None:
    assert sorted(i for batch in run_epoch(wrapped(InfoBatch())) for i in batch) == list(range(SIZE))


def test_losses_are_those_of_training() -> None:
    data = Numbers()
    loader = wrapped(InfoBatch(prune_ratio=0.5), data)
    for _ in loader:
        loader.reduce(loader.indices.float())
    left_out = set(range(SIZE)) - set(loader.plan.indices.tolist())
    assert len(left_out) == 10
    assert max(left_out) < 20
