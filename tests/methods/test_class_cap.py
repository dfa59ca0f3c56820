"""ClassCap against counting (references/distinct.py), and where it does not act."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain import ClassCap, Distinct, InfoBatch
from references import distinct as reference
from toys import SIZE, Numbers, flat, run_epoch, setup, wrapped


def counts(labels: list[int], indices: list[int]) -> dict[int, int]:
    return {label: sum(labels[i] == label for i in indices) for label in {labels[i] for i in indices}}


@given(
    labels=st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, 2, 2, 7, 9]), min_size=1, max_size=120),
    cap=st.sampled_from([0.01, 0.2, 0.5, 1, 1.3, 2.5, 40.0, 1e308]),
    seed=st.integers(0, 9),
)
def test_of_each_class_an_epoch_takes_so_many(labels: list[int], cap: float, seed: int) -> None:
    selector = setup(ClassCap(cap=cap), size=len(labels), targets=torch.tensor(labels), seed=seed)
    for epoch in range(3):
        plan = selector.plan(epoch, torch.arange(len(labels)))
        taken = plan.indices.tolist()
        assert taken == sorted({*taken})
        assert plan.weights is None
        assert counts(labels, taken) == reference.capped(labels, cap)


def test_each_sample_of_a_class_is_drawn_as_often_and_anew() -> None:
    targets = torch.tensor([0] * 12 + [1] * 3 + [2] * 3)
    selector = setup(ClassCap(), size=18, targets=targets)
    plans = [selector.plan(epoch, torch.arange(18)).indices for epoch in range(3000)]
    times = torch.zeros(18, dtype=torch.int64)
    for taken in plans:
        times[taken] += 1
    assert times[12:].eq(3000).all()
    assert ((times[:12] / 3000 - 0.25).abs() < 5 * (0.25 * 0.75 / 3000) ** 0.5).all()
    assert not torch.equal(plans[0], plans[1])


@pytest.mark.parametrize(
    ("labels", "cap", "taken"),
    [
        ([3] * 20, 0.5, 20),  # one class only is its own median
        ([0] * 15 + [1] * 10, 1.0, 25),  # 15 is not above 1.5 times 12.5
        ([0] * 16 + [1] * 10 + [2] * 10, 1.0, 30),
        ([0] * 15 + [1] * 10 + [2] * 10, 1.0, 35),  # 15 is 1.5 times 10: not above
        ([0] * 20 + [1], 1.0, 11),  # of two classes the median lies between them, at 10.5, and Python rounds that to 10
        ([0] * 20 + [1], 0.001, 2),  # one of each class at least
        ([0] * 20 + [1] * 4 + [5] * 2, 1.0, 10),  # classes 2 to 4 have none, and do not count
        ([0] * 30 + [1] * 10 + [2] * 6 + [3] * 2, 1.0, 24),  # the median is 8
    ],
)
def test_small_and_strange_classes(labels: list[int], cap: float, taken: int) -> None:
    selector = setup(ClassCap(cap=cap), size=len(labels), targets=torch.tensor(labels))
    assert len(selector.plan(0, torch.arange(len(labels))).indices) == taken
    assert sum(reference.capped(labels, cap).values()) == taken


def test_a_class_without_a_sample_in_the_pool_does_not_count() -> None:
    labels = [0] * 20 + [1] * 4 + [2] * 4 + [3] * 90
    selector = setup(ClassCap(), size=118, targets=torch.tensor(labels))
    assert counts(labels, selector.plan(0, torch.arange(28)).indices.tolist()) == {0: 4, 1: 4, 2: 4}


def test_the_limit_follows_the_pool_and_the_start_says_whether_it_acts() -> None:
    labels = [0] * 20 + [1] * 6 + [2] * 6
    targets, even = torch.tensor(labels), torch.tensor([0, 1, 2, 3, 20, 21, 22, 23, 26, 27, 28, 29])
    on = setup(ClassCap(), size=32, targets=targets)
    assert len(on.plan(0, torch.arange(32)).indices) == 18
    assert counts(labels, on.plan(1, torch.arange(24)).indices.tolist()) == {0: 12, 1: 4}  # median 12
    off = setup(ClassCap(), size=32, targets=targets)
    assert off.plan(0, even).indices is even
    assert len(off.plan(1, torch.arange(32)).indices) == 32
    resumed = setup(ClassCap(), size=32, targets=targets)
    resumed.load_state_dict(off.state_dict())
    assert len(resumed.plan(1, torch.arange(32)).indices) == 32
    assert resumed.notes() == off.notes()


TAILED = torch.tensor([0] * 28 + [1] * 6 + [2] * 6)


def test_what_it_says() -> None:
    capped = setup(ClassCap(cap=2), targets=TAILED)
    assert capped.notes() == []
    assert capped.report() == {"classes_capped": 0}
    capped.plan(0, torch.arange(SIZE))
    assert capped.notes() == [
        "ClassCap: the largest class has 28 samples and the median one 6; of each class an epoch takes 12 at most, 24 "
        "of 40 samples in all."
    ]
    assert capped.report() == {"classes_capped": 1}
    even = setup(ClassCap(), targets=torch.arange(SIZE) % 4)
    even.plan(0, torch.arange(SIZE))
    assert even.notes() == [
        "ClassCap: the largest class has 10 samples and the median one 10; up to 1.5 times as many none is capped."
    ]
    assert even.report() == {"classes_capped": 0}


def test_with_the_trainings_shares_as_the_goal_it_does_not_cap() -> None:
    selector = setup(ClassCap(), targets=TAILED, goal="as-trained")
    pool = torch.arange(SIZE)
    assert selector.plan(0, pool).indices is pool
    assert selector.notes() == [
        "ClassCap: classes are to come as often as in training (goal as-trained), so none is capped."
    ]
    assert selector.report() == {"classes_capped": 0}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"goal": None, "targets": TAILED}, r"ClassCap changes how often the classes come.*goal=\"balanced\""),
        ({"dataset": range(SIZE)}, r"ClassCap works class by class.*targets=labels"),
        ({"goal": "fair", "targets": TAILED}, r"Unknown goal 'fair'"),
    ],
)
def test_what_it_needs(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        wrapped(ClassCap(), **options)


@pytest.mark.parametrize("cap", [0, -1, float("inf"), float("nan")])
def test_a_cap_is_a_number_above_0(cap: float) -> None:
    with pytest.raises(ValueError, match=r"cap=.* must be a finite number above 0"):
        ClassCap(cap=cap)


def test_one_of_each_then_the_cap_then_easy_samples_left_out() -> None:
    """Each counts within what the ones before it took."""
    groups = torch.cat([torch.arange(28) // 2, 100 + torch.arange(12)])
    chain = Distinct(groups=groups) | ClassCap() | InfoBatch(prune_ratio=0.5, delta=0.8)
    loader = wrapped(chain, targets=TAILED, epochs=6)
    labels = TAILED.tolist()
    first = flat(run_epoch(loader))
    assert counts(labels, first) == {0: 6, 1: 6, 2: 6}  # 14 distinct ones of class 0 are more than 1.5 times 6
    for _ in range(4):
        taken = flat(run_epoch(loader))
        assert len({int(groups[i]) for i in taken}) == len(taken) < 18
        assert max(counts(labels, taken).values()) <= 6
    assert len(flat(run_epoch(loader))) == 18  # InfoBatch's last epochs leave nothing out
    assert len(loader.selector.notes()) == 2


def test_a_batch_is_not_weighed() -> None:
    loader = wrapped(ClassCap(), Numbers(), targets=TAILED)
    for _ in loader:
        losses = loader.indices.float()
        assert loader.reduce(losses) == losses.mean()
