"""RHO-LOSS against Eq. 3 by sorting (references/rho_loss.py)."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain import Batch
from leantrain.methods.rho_loss import RHOLoss
from references.rho_loss import kept
from toys import SIZE, losses_at, run_epoch, setup, wrapped

LOSS = st.integers(0, 6).map(lambda n: n / 4)
PAIRS = st.lists(st.tuples(LOSS, st.one_of(LOSS, st.just(math.inf))), min_size=1, max_size=40)
HOLDOUT = torch.rand(SIZE, generator=torch.Generator().manual_seed(8)) * 3


@given(pairs=PAIRS, keep_ratio=st.sampled_from(["0.1", "0.3", "0.55", "1"]))
def test_the_top_of_each_batch_is_kept(pairs: list[tuple[float, float]], keep_ratio: str) -> None:
    losses, irreducible = zip(*pairs, strict=True)
    size = len(pairs)
    indices = torch.arange(size).flip(0)  # the batch is in another order than the data set
    holdout = torch.tensor(irreducible).flip(0)
    selector = setup(RHOLoss(holdout_losses=holdout, keep_ratio=float(keep_ratio)), size=size)
    found = selector.select(Batch(0, 0, indices, torch.tensor(losses)))
    assert found.tolist() == kept(list(losses), list(irreducible), keep_ratio)


def test_ties_fall_by_position_in_batches_of_any_size() -> None:
    selector = setup(RHOLoss(holdout_losses=torch.ones(3200)), size=3200)
    found = selector.select(Batch(0, 0, torch.arange(3200), torch.arange(3200) % 2 * 1.0))
    assert found.tolist() == list(range(1, 640, 2))


def test_in_a_loader_large_batches_fill_training_batches() -> None:
    """Batches of 4, five joined into a large one of 20, of which 4 are kept: one training batch each."""
    loader = wrapped(RHOLoss(holdout_losses=HOLDOUT, keep_ratio=0.2, scoring_batches=5))
    for epoch in range(3):
        given = run_epoch(loader)
        losses = losses_at(epoch, torch.arange(SIZE)).tolist()
        for number, batch in enumerate(given):
            start = 20 * number
            wanted = kept(losses[start : start + 20], HOLDOUT[start : start + 20].tolist(), "0.2")
            assert sorted(batch) == [start + i for i in wanted]
        assert len(given) == 2
    assert loader.stats.scored == 3 * SIZE


def test_start_epoch_trains_on_everything_and_the_callable_waits() -> None:
    calls: list[int] = []

    def make() -> torch.Tensor:
        calls.append(loader.epoch)
        return HOLDOUT

    loader = wrapped(RHOLoss(holdout_losses=make, start_epoch=2, scoring_batches=2))
    sizes = [sum(map(len, run_epoch(loader))) for _ in range(4)]
    assert sizes[:2] == [SIZE, SIZE]
    assert sizes[2] < SIZE / 2
    assert calls == [2]


def test_the_state_carries_losses_that_were_made() -> None:
    def never() -> torch.Tensor:
        raise AssertionError("made twice")

    first = setup(RHOLoss(holdout_losses=lambda: HOLDOUT))
    assert first.state_dict() == {}
    first.plan(0, torch.arange(SIZE))
    resumed = setup(RHOLoss(holdout_losses=never))
    resumed.load_state_dict(first.state_dict())
    resumed.plan(1, torch.arange(SIZE))
    batch = Batch(1, 0, torch.arange(SIZE), torch.rand(SIZE))
    assert torch.equal(first.select(batch), resumed.select(batch))


def test_settings_leave_the_losses_out() -> None:
    expected = {"keep_ratio": 0.1, "scoring_batches": 10, "start_epoch": 0}
    assert RHOLoss(holdout_losses=HOLDOUT).settings() == expected


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"holdout_losses": [0.5]}, r"holdout_losses must be a \(N,\) tensor or a callable that makes one, not list"),
        ({"keep_ratio": 10}, r"keep_ratio=10 is outside \(0, 1\].* pass 0\.1"),
        ({"scoring_batches": 0}, "scoring_batches=0 must be at least 1"),
        ({"start_epoch": -1}, "start_epoch=-1 must be at least 0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        RHOLoss(**({"holdout_losses": HOLDOUT} | settings))


def test_losses_of_another_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match=r"holdout_losses have shape \(39,\); expected \(40,\)"):
        setup(RHOLoss(holdout_losses=HOLDOUT[1:]))
    broken = HOLDOUT.clone()
    broken[3] = math.nan
    with pytest.raises(ValueError, match=r"holdout_losses of 1 samples are NaN, first \[3\]"):
        setup(RHOLoss(holdout_losses=lambda: broken)).plan(0, torch.arange(SIZE))
