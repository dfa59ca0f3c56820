"""``ClassFloor`` against plain counting, and which classes lost most."""

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leantrain import RPD, Adonis, Batch, InfoBatch, Ledger, Plan, Selector
from leantrain.core.class_usage import kept_by_class, lost_most
from leantrain.methods.class_floor import ClassFloor
from toys import METHODS, SIZE, Numbers, flat, losses_at, setup, wrapped

RATIOS = st.sampled_from(["0.05", "0.1", "0.29", "0.3", "0.5", "0.55", "1"])
NAME = "samples_added_by_class_floor"


class Planned(Selector):
    """Plans what it is told."""

    def __init__(self, plan: Plan) -> None:
        self.told = plan

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return self.told


class Told(Selector):
    """Keeps of each batch the positions that it is told, in turn."""

    needs = frozenset({"score"})

    def __init__(self, *kept: list[int]) -> None:
        self.told = list(kept)

    def loss_age(self, epoch: int) -> int:
        return 1

    def select(self, batch: Batch) -> Tensor:
        return torch.tensor(self.told.pop(0), dtype=torch.int64)


class OnlyClass(Selector):
    """An online method that keeps one class only."""

    needs = frozenset({"score"})

    def loss_age(self, epoch: int) -> int:
        return 1

    def select(self, batch: Batch) -> Tensor:
        return (torch.tensor(Numbers().targets)[batch.indices] == 0).nonzero().flatten()


def floor_of(selector: Selector, ratio: float, labels: list[int], **facts: Any) -> ClassFloor:
    return setup(ClassFloor(selector, ratio), size=len(labels), targets=torch.tensor(labels), **facts)


# Plans.


@given(
    labels=st.lists(st.sampled_from([-3, 0, 1, 7, 10**12]), min_size=1, max_size=60),
    ratio=RATIOS,
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_a_plan_holds_the_share_of_each_class_of_the_pool(
    labels: list[int], ratio: str, epoch: int, data: st.DataObject
) -> None:
    pool = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, unique=True))
    planned = data.draw(st.lists(st.sampled_from(pool), max_size=80))  # with repeats
    plan = Plan(torch.tensor(planned, dtype=torch.int64), torch.arange(len(planned)) + 2.0)
    selector = floor_of(Planned(plan), float(ratio), labels)
    found = selector.plan(epoch, torch.tensor(pool))

    indices, new = found.indices.tolist(), ~torch.isin(found.indices, plan.indices)
    added = found.indices[new].tolist()
    assert found.indices[~new].tolist() == planned
    if len(set(planned)) == len(planned):  # else the order holds, and they stand anywhere in it
        assert indices == planned + added
    assert found.weights[~new].tolist() == (torch.arange(len(planned)) + 2.0).tolist()
    assert found.weights[new].tolist() == [1.0] * len(added)
    assert len(set(added)) == len(added)
    assert set(added) <= set(pool) - set(planned)
    for label in set(labels):
        members = [i for i in pool if labels[i] == label]
        have = len({i for i in planned if labels[i] == label})
        least = math.ceil(Fraction(ratio) * len(members))
        assert sum(labels[i] == label for i in added) == max(0, least - have)
    assert selector.report() == {NAME: len(added)}


def test_a_plan_with_enough_of_each_class_stays_as_it_is() -> None:
    plan = Plan(torch.arange(SIZE), lr_factor=2.0, refresh=torch.arange(3))
    assert floor_of(Planned(plan), 0.5, Numbers().targets).plan(0, torch.arange(SIZE)) is plan


def test_the_least_is_one_sample() -> None:
    found = floor_of(Planned(Plan(torch.tensor([0]))), 1e-9, [5, 5, 6, 6]).plan(0, torch.arange(4))
    assert Counter([5, 5, 6, 6][i] for i in found.indices.tolist()) == {5: 1, 6: 1}


@pytest.mark.parametrize(("ratio", "least"), [(0.55, 55), (0.29, 29)])
def test_shares_are_exact(ratio: float, least: int) -> None:
    """In floats 0.55 * 100 is above 55 and 0.29 * 100 below 29."""
    plan = Plan(torch.tensor([0]))
    assert len(floor_of(Planned(plan), ratio, [0] * 100).plan(0, torch.arange(100)).indices) == least
    batch = Batch(0, 0, torch.arange(100), torch.zeros(100))
    assert len(floor_of(Told([]), ratio, [0] * 100).select(batch)) == least


def test_additions_come_in_batches_of_their_own() -> None:
    labels = [0] * 10 + [1] * 30
    plan = Plan(torch.arange(10), batch_sizes=(7, 3), lr_factor=1.5)
    found = floor_of(Planned(plan), 0.3, labels).plan(0, torch.arange(40))  # 9 of class 1
    assert found.batch_sizes == (7, 3, 4, 4, 1)
    assert (found.indices[:10].tolist(), found.weights, found.lr_factor) == (list(range(10)), None, 1.5)


def test_additions_are_mixed() -> None:
    labels = [0] * 50 + [1] * 50 + [2]
    found = floor_of(Planned(Plan(torch.tensor([100, 100]))), 0.5, labels).plan(0, torch.arange(101))
    added = [labels[i] for i in found.indices.tolist()[2:]]
    assert len(added) == 50
    assert added not in (sorted(added), sorted(added, reverse=True))


def test_what_is_added_is_not_refreshed() -> None:
    plan = Plan(torch.arange(10), refresh=torch.arange(10, 40))
    found = floor_of(Planned(plan), 0.2, [0] * 10 + [1] * 30).plan(0, torch.arange(40))
    added = set(found.indices.tolist()[10:])
    assert len(added) == 6
    assert found.refresh.tolist() == [i for i in range(10, 40) if i not in added]


def test_every_sample_left_out_is_as_likely_to_return() -> None:
    times = torch.zeros(20)
    for seed in range(1000):
        selector = floor_of(Planned(Plan(torch.tensor([0, 19]))), 0.3, [0] * 19 + [1], seed=seed)  # 6 of 19, 1 is there
        times[selector.plan(0, torch.arange(20)).indices] += 1
    share = 5 / 18
    assert ((times[1:19] / 1000 - share).abs() < 5 * (share * (1 - share) / 1000) ** 0.5).all()


def test_draws_follow_seed_and_epoch() -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        selector = floor_of(Planned(Plan(torch.tensor([0]))), 0.5, [0] + [1] * 39, seed=seed)
        return selector.plan(epoch, torch.arange(40)).indices.tolist()

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


# Online epochs.


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    ratio=RATIOS,
    size=st.integers(1, 12),
    data=st.data(),
)
def test_batches_give_back_what_a_class_lacks(labels: list[int], ratio: str, size: int, data: st.DataObject) -> None:
    batches = [list(range(start, min(start + size, len(labels)))) for start in range(0, len(labels), size)]
    told = [data.draw(st.lists(st.integers(0, len(batch) - 1), unique=True)) for batch in batches]
    selector = floor_of(Told(*told, *told), float(ratio), labels)
    total = 0
    for epoch in range(2):  # counts start over
        seen, kept = Counter(), Counter()
        for number, (batch, first) in enumerate(zip(batches, told, strict=True)):
            found = selector.select(Batch(epoch, number, torch.tensor(batch), torch.zeros(len(batch)))).tolist()
            added = [p for p in found if p not in first]
            assert len(set(found)) == len(found) == len(first) + len(added)
            assert set(first) <= set(found)
            assert found == (sorted(found) if added else first)
            seen.update(labels[i] for i in batch)
            kept.update(labels[batch[p]] for p in first)
            for label in set(labels):
                rejected = sum(labels[i] == label for i in batch) - sum(labels[batch[p]] == label for p in first)
                lacking = math.floor(Fraction(ratio) * seen[label]) - kept[label]
                assert sum(labels[batch[p]] == label for p in added) == max(0, min(lacking, rejected))
            kept.update(labels[batch[p]] for p in added)
            total += len(added)
    assert selector.report()[NAME] == total


def test_an_empty_batch_is_none() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert floor_of(Told([]), 0.5, [0, 1]).select(Batch(0, 0, none, torch.empty(0))).tolist() == []


def test_batches_draw_apart() -> None:
    selector = floor_of(Told([], [], []), 0.5, [0] * 60)
    drawn = {tuple(selector.select(Batch(0, n, torch.arange(20) + 20 * n, torch.zeros(20))).tolist()) for n in range(3)}
    assert len(drawn) == 3
    assert all(len(positions) == 10 for positions in drawn)


def test_a_copy_made_within_an_epoch_goes_on_alike() -> None:
    def batch(number: int) -> Batch:
        return Batch(0, number, torch.arange(4) + 4 * number, torch.zeros(4))

    first = floor_of(Told([], [], []), 0.3, [0] * 40)
    first.select(batch(0))
    state = first.state_dict()
    rest = [first.select(batch(number)).tolist() for number in (1, 2)]
    second = floor_of(Told([], []), 0.3, [0] * 40)
    second.load_state_dict(state)
    assert [second.select(batch(number)).tolist() for number in (1, 2)] == rest
    assert second.report() == first.report() == {NAME: 3}


# End to end.


def train(loader: Any) -> list[int]:
    given = []
    assert loader.lr_factor > 0
    for _, targets in loader:
        given.append(loader.indices.tolist())
        logits = torch.rand(len(targets), 4, generator=torch.Generator().manual_seed(len(given)))
        loader.reduce(losses_at(loader.epoch, loader.indices), logits, targets)
    return flat(given)


@pytest.mark.parametrize("method", METHODS)
def test_no_class_falls_below_its_share(method: str) -> None:
    loader, targets = wrapped(ClassFloor(METHODS[method](), 0.3), epochs=4), Numbers().targets
    opened: list[int] = []
    for epoch in range(4):
        planned = set(loader.plan.indices.tolist())
        trained = Counter(train(loader))
        before, opened = opened, loader.state_dict()["open"].tolist()
        chosen = set(trained - Counter(before) + Counter(opened))  # the open batch is trained on in a later epoch
        online = loader.selector.loss_age(epoch) is not None
        for label in range(4):
            seen = sum(targets[i] == label for i in (planned if online else range(SIZE)))
            least = math.floor(0.3 * seen) if online else math.ceil(0.3 * seen)
            assert sum(targets[i] == label for i in chosen) >= least


@pytest.mark.parametrize("method", METHODS)
def test_a_floor_below_everything_changes_nothing(method: str) -> None:
    """With 8 or 16 samples a class, 0.01 asks for one in a plan and for none in a batch."""
    plain, guarded = wrapped(METHODS[method](), epochs=4), wrapped(ClassFloor(METHODS[method](), 0.01), epochs=4)
    assert [train(guarded) for _ in range(4)] == [train(plain) for _ in range(4)]
    assert guarded.selector.needs == plain.selector.needs
    assert guarded.selector.report() == plain.selector.report() | {NAME: 0}


def test_a_class_that_the_method_never_keeps_is_trained_on() -> None:
    loader = wrapped(ClassFloor(OnlyClass(), 0.25), epochs=1, batch_size=5)
    assert Counter(Numbers().targets[i] for i in train(loader)) == {0: 16, 1: 2, 2: 2, 3: 2}


def test_it_stands_on_either_side_of_a_composition() -> None:
    targets = Numbers().targets
    whole = wrapped(ClassFloor(Planned(Plan(torch.arange(SIZE))) | OnlyClass(), 0.25), epochs=1, batch_size=5)
    assert Counter(targets[i] for i in train(whole)) == {0: 16, 1: 2, 2: 2, 3: 2}
    only = Plan(torch.tensor([i for i in range(SIZE) if targets[i] == 0]))
    left = wrapped(ClassFloor(Planned(only), 0.5) | RPD(keep_ratio=1.0), epochs=1)
    assert Counter(targets[i] for i in train(left)) == {0: 16, 1: 4, 2: 4, 3: 4}
    right = wrapped(RPD(keep_ratio=1.0) | ClassFloor(Planned(only), 0.5), epochs=1)
    assert Counter(targets[i] for i in train(right)) == {0: 16, 1: 4, 2: 4, 3: 4}


@pytest.mark.parametrize("method", ["rs2", "adonis", "stale-sb"])
def test_a_resumed_run_is_the_straight_one(method: str) -> None:
    straight, first = (wrapped(ClassFloor(METHODS[method](), 0.4)) for _ in range(2))
    train(first)
    train(first)
    resumed = wrapped(ClassFloor(METHODS[method](), 0.4))
    resumed.load_state_dict(first.state_dict())
    run = [train(straight) for _ in range(6)]
    assert [train(resumed) for _ in range(4)] == run[2:]
    assert resumed.selector.report() == straight.selector.report()


def test_settings_hold_both() -> None:
    assert ClassFloor(RPD(keep_ratio=0.5), 0.2).settings() == {"ratio": 0.2, "RPD": {"keep_ratio": 0.5}}
    assert ClassFloor(InfoBatch() | Adonis()).settings()["Chain"]["InfoBatch"]["prune_ratio"] == 0.5


def test_what_it_takes() -> None:
    with pytest.raises(TypeError, match="ClassFloor wraps a Selector such as InfoBatch"):
        ClassFloor("adonis")
    with pytest.raises(ValueError, match=r"ratio=10 is outside \(0, 1\].*pass 0\.1"):
        ClassFloor(Adonis(), 10)
    with pytest.raises(ValueError, match="ratio=0 is outside"):
        ClassFloor(Adonis(), ratio=0)
    with pytest.raises(ValueError, match=r"ClassFloor works class by class.*targets=labels"):
        setup(ClassFloor(Adonis()))


# Which classes lost most.


@given(
    rows=st.lists(st.tuples(st.sampled_from([-1, 2, 5, 900]), st.integers(0, 7)), min_size=1, max_size=40),
    epochs=st.integers(1, 9),
)
def test_presentations_by_class(rows: list[tuple[int, int]], epochs: int) -> None:
    ledger = Ledger(len(rows))
    ledger.trained = torch.tensor([times for _, times in rows], dtype=torch.int32)
    ledger.trained_epoch[-1] = epochs - 1
    targets = [label for label, _ in rows]
    found = kept_by_class(ledger, targets)
    rate = {}
    for label in sorted(set(targets)):
        own = [times for other, times in rows if other == label]
        rate[label] = sum(own) / len(own)
        assert found[label].presentations == sum(own)
        assert found[label].share == pytest.approx(sum(own) / (len(own) * epochs))
    assert list(found) == sorted(rate)
    mean = sum(rate.values()) / len(rate)
    lost = lost_most(ledger, torch.tensor(targets), top=3)
    assert [label for label, _, _ in lost] == sorted(rate, key=rate.__getitem__)[:3]
    for label, each, relative in lost:
        assert each == pytest.approx(rate[label])
        assert relative == pytest.approx(rate[label] / mean if mean else 1.0)


def test_a_real_run_is_counted() -> None:
    loader = wrapped(OnlyClass(), epochs=2, batch_size=5)
    train(loader)
    train(loader)
    assert kept_by_class(loader.ledger, Numbers().targets) == {0: (32, 1.0), 1: (0, 0.0), 2: (0, 0.0), 3: (0, 0.0)}
    assert lost_most(loader.ledger, Numbers().targets, top=2) == [(1, 0.0, 0.0), (2, 0.0, 0.0)]
    assert lost_most(loader.ledger, Numbers().targets)[-1] == (0, 2.0, 4.0)


def test_before_any_training() -> None:
    assert kept_by_class(Ledger(3), [1, 1, 4]) == {1: (0, 0.0), 4: (0, 0.0)}
    assert lost_most(Ledger(3), [1, 1, 4]) == [(1, 0.0, 1.0), (4, 0.0, 1.0)]


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"targets have shape \(2,\).*each of the 3 samples"):
        lost_most(Ledger(3), [1, 2])
    with pytest.raises(TypeError, match="targets must be"):
        kept_by_class(Ledger(3), None)
    with pytest.raises(ValueError, match="top=0 must be at least 1"):
        lost_most(Ledger(3), [1, 2, 3], top=0)
