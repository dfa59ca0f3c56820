"""ADONIS against its steps in plain Python (references/adonis.py)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.adonis as reference
from leantrain import Adonis, Batch, Selector
from references.selective_backprop import scored_epochs
from toys import losses_at, run_epoch, setup, wrapped

SHAPES = {
    "gamma": lambda rng, n: rng.gamma(0.7, size=n),
    "normal": lambda rng, n: rng.normal(3, 0.5, n),
    "uniform": lambda rng, n: rng.uniform(0, 2, n),
    "two hills": lambda rng, n: np.where(rng.random(n) < 0.3, rng.normal(6, 0.4, n), rng.normal(1, 0.2, n)),
    "one far away": lambda rng, n: np.where(np.arange(n) == 0, 1e4, rng.gamma(2, size=n)),
}
# Of two values both lie one standard deviation from the mean up to rounding, so the first batch has three or more.
SIZES = st.builds(lambda first, rest: [first, *rest], st.integers(3, 60), st.lists(st.integers(1, 60), max_size=5))


def batches_of(shape: str, seed: int, sizes: list[int]) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.tensor(SHAPES[shape](rng, size), dtype=torch.float32) for size in sizes]


def judge(selector: Selector, losses: torch.Tensor, number: int = 0, epoch: int = 0) -> list[int]:
    return selector.select(Batch(epoch, number, torch.arange(len(losses)), losses)).tolist()


@given(
    shape=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 10_000),
    sizes=SIZES,
    history=st.sampled_from([3, 16, 100, 512]),
    rule=st.sampled_from(["sturges", "sqrt", "rice"]),
    sigma=st.sampled_from([0.5, 1.0, 2.0]),
    theta=st.sampled_from([0.0, 0.05, 0.12, 0.3, 0.7, "auto"]),
)
def test_candidates(shape: str, seed: int, sizes: list[int], theta: Any, **settings: Any) -> None:
    ours = setup(Adonis(theta=theta, alpha=1.0, keep_ratio=1.0, **settings))
    slow = reference.Adonis(theta=theta, keep_ratio=1.0, **settings)
    for losses in batches_of(shape, seed, sizes):
        candidates, kept = slow.judge(losses.tolist())
        assert kept == len(candidates)
        assert judge(ours, losses) == candidates


@given(
    shape=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 10_000),
    sizes=SIZES,
    theta=st.sampled_from([0.05, 0.2, "auto"]),
    alpha=st.sampled_from(["0.05", "0.3", "0.55", "0.7", "0.9"]),
    share=st.sampled_from([0.2, 0.5, 1.0]),
)
def test_kept_are_alpha_of_the_candidates(
    shape: str, seed: int, sizes: list[int], theta: Any, alpha: str, share: float
) -> None:
    keep_ratio = round(share * float(alpha), 4)
    ours = setup(Adonis.preset("paper", theta=theta, alpha=float(alpha), keep_ratio=keep_ratio))
    slow = reference.Adonis(theta=theta, alpha=alpha, keep_ratio=keep_ratio)
    for number, losses in enumerate(batches_of(shape, seed, sizes)):
        candidates, count = slow.judge(losses.tolist())
        kept = judge(ours, losses, number)
        assert len(kept) == count
        assert kept == sorted(set(kept) & set(candidates))


@pytest.mark.parametrize("stale_epochs", [1, 2, 3])
@pytest.mark.parametrize("start_epoch", [0, 2])
@pytest.mark.parametrize("theta", [0.08, 0.9, "auto"])
def test_a_whole_training(stale_epochs: int, start_epoch: int, theta: Any) -> None:
    """Scoring, stored losses, the open batch and its flush, against a plain loop over all epochs."""
    settings = {"theta": theta, "history": 64, "rule": "sturges", "sigma": 1.5, "keep_ratio": 1.0}
    everyone = torch.arange(40)
    expected = reference.train(
        [losses_at(epoch, everyone).tolist() for epoch in range(6)],
        batch_size=6,
        start_epoch=start_epoch,
        stale_epochs=stale_epochs,
        judge=reference.Adonis(**settings),
    )
    selector = Adonis(alpha=1.0, stale_epochs=stale_epochs, start_epoch=start_epoch, **settings)
    loader = wrapped(selector, batch_size=6, epochs=6)
    assert [run_epoch(loader) for _ in range(6)] == expected


@pytest.mark.parametrize(("eta", "start"), [(1, 0), (2, 0), (3, 0), (3, 2)])
def test_scores_every_eta_epochs(eta: int, start: int) -> None:
    loader = wrapped(Adonis(theta="auto", stale_epochs=eta, start_epoch=start), epochs=8)
    scored = []
    for epoch in range(8):
        before = loader.stats.scored
        run_epoch(loader)
        assert loader.stats.scored - before in (0, 40)
        if loader.stats.scored > before:
            scored.append(epoch)
    assert scored == scored_epochs(8, start_epoch=start, age=eta)


def test_when_no_bin_passes_the_fullest_counts_and_it_is_reported() -> None:
    selector = setup(Adonis(theta=0.9, alpha=1.0, sigma=3.0))
    losses = torch.tensor([1.0, 1.01, 1.02, 5.0, 9.0])
    assert judge(selector, losses) == [0, 1, 2]
    assert selector.report()["batches_without_a_bin_above_theta"] == 1


def test_theta_is_a_strict_bound() -> None:
    """Four values, sqrt rule: two bins that hold half of the values each, not more than half."""
    losses = torch.tensor([1.0, 1.1, 2.9, 3.0])
    assert judge(setup(Adonis(theta=0.49, alpha=1.0, sigma=3.0, rule="sqrt")), losses) == [0, 1, 2, 3]
    strict = setup(Adonis(theta=0.5, alpha=1.0, sigma=3.0, rule="sqrt"))
    judge(strict, losses)
    assert strict.report()["batches_without_a_bin_above_theta"] == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 7.3, 1e6])
@pytest.mark.parametrize("rule", ["sturges", "sqrt", "rice"])
def test_equal_losses_are_all_candidates(value: float, rule: str) -> None:
    selector = setup(Adonis(theta=0.12, alpha=1.0, rule=rule))
    for _ in range(3):
        assert judge(selector, torch.full((7,), value)) == list(range(7))


def test_a_far_outlier_is_clipped() -> None:
    losses = torch.cat([torch.linspace(1, 2, 30), torch.tensor([50.0])])
    assert 30 not in judge(setup(Adonis(theta=0.0, alpha=1.0)), losses)


@pytest.mark.parametrize("keep_ratio", [0.2, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("shape", [*SHAPES, "a heap at zero"])
def test_auto_theta_keeps_the_wanted_share(shape: str, keep_ratio: float) -> None:
    rng = np.random.default_rng(4)
    selector = setup(Adonis(theta="auto", keep_ratio=keep_ratio, sigma=3.0))
    kept = total = 0
    for number in range(60):
        if shape == "a heap at zero":
            values = np.where(rng.random(64) < 0.7, 0, rng.gamma(1, size=64))
        else:
            values = SHAPES[shape](rng, 64)
        kept += len(judge(selector, torch.tensor(values, dtype=torch.float32), number))
        total += 64
    assert kept / total == pytest.approx(keep_ratio, abs=0.04)


def test_alpha_draws_uniformly() -> None:
    losses = torch.linspace(1, 2, 20)
    times = torch.zeros(20)
    for number in range(2000):
        times[judge(setup(Adonis(theta=0.0, alpha=0.3, sigma=3.0)), losses, number)] += 1
    assert times.sum() == 2000 * 6
    assert ((times / 2000 - 0.3).abs() < 5 * (0.3 * 0.7 / 2000) ** 0.5).all()


@given(
    shape=st.sampled_from(["gamma", "normal", "two hills"]),
    seed=st.integers(0, 10_000),
    history=st.sampled_from([16, 100, 512]),
    sigma=st.sampled_from([1.0, 2.0]),
    theta=st.sampled_from([0.05, 0.12, 0.3, "auto"]),
    half_life=st.sampled_from([0.3, 1, 4.5]),
)
def test_recent_losses_count_more(shape: str, seed: int, theta: Any, **settings: Any) -> None:
    ours = setup(Adonis(theta=theta, alpha=1.0, keep_ratio=0.7, rule="sturges", **settings))
    slow = reference.Adonis(theta=theta, keep_ratio=0.7, rule="sturges", **settings)
    plain = reference.Adonis(theta=theta, keep_ratio=0.7, rule="sturges", **(settings | {"half_life": None}))
    for number, losses in enumerate(batches_of(shape, seed, [40, 17, 40, 40, 3])):
        candidates, count = slow.judge(losses.tolist())
        kept = judge(ours, losses, number)
        assert len(kept) == count
        assert kept == sorted(set(kept) & set(candidates))
        if number == 0:  # one judgement, one weight
            assert (candidates, count) == plain.judge(losses.tolist())


def test_after_a_jump_the_recent_level_counts() -> None:
    """40 batches at 1, then one at 3: without weights the many old losses win and clip the new ones away."""
    old, new = torch.linspace(0.9, 1.1, 16), torch.linspace(2.9, 3.1, 16)
    plain, recent = (setup(Adonis(theta=0.0, alpha=1.0, sigma=1.0, half_life=half_life)) for half_life in (None, 0.02))
    for number in range(40):
        judge(plain, old, number)
        judge(recent, old, number)
    assert judge(plain, new, 40) == []
    # Of evenly spread losses, the share within one standard deviation.
    assert judge(recent, new, 40) == [i for i in range(16) if abs(new[i] - 3) <= float(new.std(correction=0))]


def test_an_old_history_of_no_weight_breaks_nothing() -> None:
    for theta in (0.12, "auto"):
        selector = setup(Adonis(theta=theta, half_life=0.001, sigma=0.5, history=64))
        judge(selector, torch.full((9,), 2.0))
        assert judge(selector, torch.tensor([0.0, 4.0])) == []  # both clipped, only weightless losses are within
        assert judge(selector, torch.tensor([1.0, 1.1, 1.2])) == [1]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"half_life": 0}, "half_life=0 must be a finite number above 0"),
        ({"half_life": math.nan}, "half_life=nan must be a finite number above 0"),
        ({"half_life": "1"}, "half_life='1' must be a number above 0, not str"),
        ({"scoring_batches": 0}, "scoring_batches=0 must be at least 1"),
        ({"scoring_batches": 1.5}, "scoring_batches=1.5 must be a whole number"),
    ],
)
def test_wrong_outlook_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        Adonis(**settings)


def test_scoring_batches_is_what_the_loader_reads() -> None:
    assert Adonis().scoring_batches == 1
    assert (Adonis(scoring_batches=4) | Adonis()).scoring_batches == 4


def test_the_state_holds_the_ages() -> None:
    first, second = (setup(Adonis(theta="auto", half_life=1.5)) for _ in range(2))
    given_losses = batches_of("gamma", 3, [30] * 8)
    for number, losses in enumerate(given_losses[:4]):
        judge(first, losses, number)
    second.load_state_dict(first.state_dict())
    for number, losses in enumerate(given_losses[4:], 4):
        assert judge(first, losses, number) == judge(second, losses, number)


@pytest.mark.parametrize(
    ("theta", "keep_ratio", "alpha"), [(0.12, 0.6, 0.3), ("auto", 0.6, 0.7), ("auto", 0.35, 0.45), ("auto", 0.95, 1.0)]
)
def test_alpha_by_default(theta: Any, keep_ratio: float, alpha: float) -> None:
    assert Adonis(theta=theta, keep_ratio=keep_ratio).alpha == alpha


@pytest.mark.parametrize(("score", "expected"), [("pass", 3), ("recycle", 1)])
def test_stale_epochs_by_default(score: Any, expected: int) -> None:
    assert Adonis(score=score).stale_epochs == expected


def test_table_a2_is_the_preset_paper() -> None:
    expected = {"history": 512, "rule": "sqrt", "sigma": 1.0, "stale_epochs": 1, "theta": 0.12, "alpha": 0.3}
    assert Adonis.preset("paper").settings().items() >= expected.items()
    assert Adonis.preset("paper", sigma=2.0).settings().items() >= (expected | {"sigma": 2.0}).items()


def test_the_defaults_train_where_those_of_table_a2_stall() -> None:
    """Losses that spread: no bin of sqrt's 23 passes a share of 0.12, so the fullest counts; by default 60 % stay."""
    rng = np.random.default_rng(0)
    batches = [torch.tensor(rng.gamma(2.0, size=64), dtype=torch.float32) for _ in range(30)]
    paper, ours = setup(Adonis.preset("paper")), setup(Adonis())
    kept = [sum(len(judge(selector, losses, i)) for i, losses in enumerate(batches)) for selector in (paper, ours)]
    assert paper.report()["batches_without_a_bin_above_theta"] > 15
    assert kept[0] / (30 * 64) < 0.1
    assert kept[1] / (30 * 64) == pytest.approx(0.6, abs=0.04)
