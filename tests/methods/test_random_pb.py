"""RandomPB against counting (references/random_pb.py)."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.random_pb as reference
from leantrain.methods.random_pb import RandomPB
from toys import SIZE, run_epoch, setup, wrapped


def batches(selector: RandomPB, epoch: int = 0) -> list[tuple[int, ...]]:
    plan = selector.plan(epoch, torch.arange(selector.run.size))
    assert plan.weights is None
    assert plan.batch_sizes is not None
    return [tuple(batch.tolist()) for batch in plan.indices.split(plan.batch_sizes)]


@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    ratio=st.sampled_from(["0.07", "0.3", "0.55", "1"]),
    seed=st.integers(0, 99),
)
def test_some_of_the_fixed_batches(size, batch_size, ratio, seed):
    facts: dict[str, Any] = {"size": size, "batch_size": batch_size, "seed": seed}
    fixed = batches(setup(RandomPB(keep_ratio=1), **facts))
    assert sorted(index for batch in fixed for index in batch) == list(range(size))
    assert sorted(map(len, fixed)) == sorted(reference.sizes(size, batch_size))
    selector = setup(RandomPB(keep_ratio=float(ratio)), **facts)
    for epoch in range(4):
        chosen = batches(selector, epoch)
        assert len(set(chosen)) == len(chosen) == reference.count(ratio, len(fixed))
        assert set(chosen) <= set(fixed)


@pytest.mark.parametrize("every", [1, 3])
def test_it_chooses_anew(every):
    selector = setup(RandomPB(keep_ratio=0.5, select_every=every), size=200)
    chosen = [set(batches(selector, epoch)) for epoch in range(9)]
    for epoch in range(1, 9):
        assert (chosen[epoch] == chosen[epoch - 1]) == (epoch % every != 0)
    assert batches(selector, 0) != batches(selector, 1)  # in another order at least


def test_every_batch_is_as_likely():
    times = torch.zeros(20)
    for epoch in range(2000):
        for batch in batches(setup(RandomPB(keep_ratio=0.3), size=20, batch_size=1), epoch):
            times[batch[0]] += 1
    assert ((times / 2000 - 0.3).abs() < 5 * (0.3 * 0.7 / 2000) ** 0.5).all()


def test_the_seed_decides():
    one, same, other = (setup(RandomPB(), seed=seed) for seed in (0, 0, 1))
    assert batches(one, 5) == batches(same, 5) != batches(other, 5)


def test_batches_are_trained_as_they_are():
    fixed = [list(batch) for batch in batches(setup(RandomPB(keep_ratio=1), batch_size=7))]
    loader = wrapped(RandomPB(keep_ratio=0.6), batch_size=7, shuffle=True)
    for _ in range(3):
        trained = run_epoch(loader)
        assert len(trained) == 4
        assert all(batch in fixed for batch in trained)
    assert sorted(index for batch in fixed for index in batch) == list(range(SIZE))


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"keep_ratio": 30}, r"keep_ratio=30 is outside .* pass 0.3"), ({"select_every": 0}, "must be at least 1")],
)
def test_settings_out_of_range(settings, text):
    with pytest.raises(ValueError, match=text):
        RandomPB(**settings)
