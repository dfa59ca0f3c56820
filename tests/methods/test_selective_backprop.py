"""Selective-Backprop against its CDF by counting (references/selective_backprop.py)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain import SB, Batch, Selector, StaleSB
from leantrain.methods.selective_backprop import cdf
from references.selective_backprop import probabilities, scored_epochs
from toys import SIZE, run_epoch, setup, wrapped

LOSSES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 100.0]), min_size=1, max_size=40)


@given(history=LOSSES, losses=LOSSES)
def test_cdf_counts_the_history_strictly_below(history: list[float], losses: list[float]) -> None:
    ours = cdf(torch.tensor(history), torch.tensor(losses)).tolist()
    assert ours == pytest.approx(probabilities(history, losses, beta=1))


@pytest.mark.parametrize("beta", [2.0, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (0.5, 1.0, 4.0))])
def test_each_sample_is_kept_with_its_probability(beta: float) -> None:
    """The history holds the last R losses, those of the batch itself included; 3,000 independent coins a sample."""
    earlier = torch.tensor([9.0, 9.0, 0.5, 1.5, 2.5, 3.5])
    losses = torch.tensor([0.1, 1.0, 2.0, 2.0, 3.0, 8.0])
    wanted = torch.tensor(probabilities([0.5, 1.5, 2.5, 3.5, *losses.tolist()], losses.tolist(), beta))
    times = torch.zeros(6)
    for seed in range(3000):
        selector = setup(SB(beta=beta, history=10), seed=seed)
        selector.select(Batch(1, 0, torch.arange(6), earlier))
        times[selector.select(Batch(1, 1, torch.arange(6), losses))] += 1
    spread = (wanted * (1 - wanted) / 3000).sqrt()
    assert ((times / 3000 - wanted).abs() <= 5 * spread + 1e-9).all()


def test_coins_are_independent() -> None:
    losses = torch.linspace(1, 2, 50)
    counts = []
    for seed in range(1500):
        kept = setup(SB(beta=1.0), seed=seed).select(Batch(1, 0, torch.arange(50), losses))
        counts.append(len(kept))
    p = torch.arange(50) / 50
    variance = float((p * (1 - p)).sum())
    assert torch.tensor(counts).double().var().item() == pytest.approx(variance, rel=0.2)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 3.0])
def test_keeps_one_in_beta_plus_one(beta: float) -> None:
    selector = setup(SB(beta=beta))
    kept = 0
    for number in range(300):
        losses = torch.rand(64, generator=torch.Generator().manual_seed(number)).exp()
        kept += len(selector.select(Batch(1, number, torch.arange(64), losses)))
    assert kept / (300 * 64) == pytest.approx(1 / (beta + 1), abs=0.02)


@pytest.mark.parametrize(
    ("selector", "age"), [(SB(), 1), (StaleSB(), 2), (StaleSB(staleness=3), 3), (StaleSB(start_epoch=3), 2)]
)
def test_primes_then_scores(selector: Selector, age: int) -> None:
    loader = wrapped(selector, epochs=9)
    scored = []
    for epoch in range(9):
        before = loader.stats.scored
        given = run_epoch(loader)
        if epoch < selector.start_epoch:
            assert sum(map(len, given)) == SIZE
        if loader.stats.scored > before:
            scored.append(epoch)
    assert scored == scored_epochs(9, start_epoch=selector.start_epoch, age=age)


def test_defaults_of_the_sources() -> None:
    settings = {"beta": 2.0, "history": 1024, "start_epoch": 1, "staleness": 2}
    assert settings.items() <= StaleSB().settings().items()
