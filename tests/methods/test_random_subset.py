"""RPC, RPD and RS2 against counting (references/random_subset.py)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain import RPC, RPD, RS2, Selector
from references.random_subset import count, is_without_replacement
from toys import setup

RATIOS = st.sampled_from(["0.07", "0.1", "0.3", "0.55", "0.8", "1"])


def subset(selector: Selector, epoch: int = 0) -> list[int]:
    return selector.plan(epoch, torch.arange(selector.run.size)).indices.tolist()


@given(size=st.integers(1, 300), keep_ratio=RATIOS, seed=st.integers(0, 99))
def test_rpd_keeps_one_fixed_subset(size: int, keep_ratio: str, seed: int) -> None:
    selector = setup(RPD(keep_ratio=float(keep_ratio)), size=size, seed=seed)
    kept = subset(selector)
    assert len(set(kept)) == len(kept) == count(keep_ratio, size)
    assert subset(selector, epoch=7) == kept


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=100), keep_ratio=RATIOS, seed=st.integers(0, 99))
def test_rpc_keeps_a_share_of_each_class(labels: list[int], keep_ratio: str, seed: int) -> None:
    targets = torch.tensor(labels)
    selector = setup(RPC(keep_ratio=float(keep_ratio)), size=len(labels), seed=seed, targets=targets)
    kept = subset(selector)
    assert len(set(kept)) == len(kept)
    for label in set(labels):
        assert sum(labels[i] == label for i in kept) == count(keep_ratio, labels.count(label))
    assert subset(selector, epoch=7) == kept


@given(size=st.integers(1, 80), keep_ratio=RATIOS, seed=st.integers(0, 99))
def test_rs2_uses_everything_before_anything_again(size: int, keep_ratio: str, seed: int) -> None:
    selector = setup(RS2(keep_ratio=float(keep_ratio)), size=size, seed=seed)
    usage = [0] * size
    for epoch in range(12):
        kept = subset(selector, epoch)
        assert len(kept) == count(keep_ratio, size)
        assert is_without_replacement(usage, kept)
        for i in kept:
            usage[i] += 1


def test_rs2_permutes_afresh() -> None:
    selector = setup(RS2(keep_ratio=0.5))
    first, second, third, fourth = (subset(selector, epoch) for epoch in range(4))
    assert sorted(first + second) == sorted(third + fourth) == list(range(40))
    assert set(third) not in (set(first), set(second))


@pytest.mark.parametrize("selector", [lambda: RPD(keep_ratio=0.3), lambda: RS2(keep_ratio=0.3)])
def test_every_sample_is_as_likely(selector: object) -> None:
    times = torch.zeros(20)
    for seed in range(2000):
        times[subset(setup(selector(), size=20, seed=seed))] += 1
    assert ((times / 2000 - 0.3).abs() < 5 * (0.3 * 0.7 / 2000) ** 0.5).all()


def test_rpc_needs_labels() -> None:
    with pytest.raises(ValueError, match=r"RPC works class by class.*targets=labels"):
        setup(RPC(), targets=None)
