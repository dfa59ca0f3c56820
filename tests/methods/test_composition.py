"""``left | right``: the left gives the pool, the right chooses within it, weights multiply."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from leantrain import IDS, RPD, RS2, SB, Adonis, Batch, ClassFloor, Plan, Selector, StaleSB
from toys import METHODS, SIZE, embedding, flat, run_epoch, setup, wrapped


class Weighted(Selector):
    """Keeps the indices that a rule allows, with weights that a rule gives; in another order than the pool's."""

    def __init__(self, rule: Callable[[Tensor], Tensor], weight: Callable[[Tensor], Tensor] | None) -> None:
        self.rule, self.weight = rule, weight

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        kept = pool[self.rule(pool)].flip(0)
        return Plan(kept, None if self.weight is None else self.weight(kept).float())


class Every(Selector):
    """An online method that keeps every ``step``-th sample of a batch."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, []

    def loss_age(self, epoch: int) -> int:
        return 1

    def select(self, batch: Batch) -> Tensor:
        assert len(batch.losses) == len(batch.indices)
        self.seen.append(batch.indices.tolist())
        return torch.arange(0, len(batch.indices), self.step)


@pytest.mark.parametrize("left", [None, lambda i: i + 1])
@pytest.mark.parametrize("right", [None, lambda i: 10 * i + 1])
def test_weights_multiply(left: Callable | None, right: Callable | None) -> None:
    chain = setup(Weighted(lambda i: i % 2 == 0, left) | Weighted(lambda i: i % 3 == 0, right))
    plan = chain.plan(0, torch.arange(SIZE))
    expected = {i: (left(i) if left else 1) * (right(i) if right else 1) for i in range(0, SIZE, 6)}
    weights = torch.ones(len(plan.indices)) if plan.weights is None else plan.weights
    assert dict(zip(plan.indices.tolist(), weights.tolist(), strict=True)) == expected


def test_reduce_uses_the_product_of_the_weights() -> None:
    chain = Weighted(lambda i: i >= 0, lambda i: i + 1) | Weighted(lambda i: i % 2 == 0, lambda i: 0.5 * i)
    loader = wrapped(chain)
    for _ in loader:
        expected = sum((i + 1) * 0.5 * i * (i + 2) for i in loader.indices.tolist()) / len(loader.indices)
        assert float(loader.reduce(loader.indices + 2.0)) == pytest.approx(expected)


def test_three_in_a_row_narrow_the_pool() -> None:
    chain = RPD(keep_ratio=0.5) | Weighted(lambda i: i % 2 == 0, None) | RS2(keep_ratio=0.5)
    setup(chain)
    first = set(chain.left.left.plan(0, torch.arange(SIZE)).indices.tolist())
    even = {i for i in first if i % 2 == 0}
    used = [chain.plan(epoch, torch.arange(SIZE)).indices.tolist() for epoch in range(2)]
    assert set(used[0]) | set(used[1]) == even


def test_online_after_online_sees_what_the_first_kept() -> None:
    chain = Every(2) | Every(3)
    kept = flat(run_epoch(wrapped(chain, batch_size=10, epochs=1)))
    assert chain.right.seen[0] == [0, 2, 4, 6, 8]
    assert kept == [i for start in range(0, SIZE, 10) for i in (start, start + 6)]


def test_ids_then_adonis_scores_and_trains_within_the_easy_set() -> None:
    ids = IDS(features=embedding(), keep_ratio=0.5, switch_epoch=3)
    loader = wrapped(ids | Adonis(theta="auto", stale_epochs=2))
    for epoch in range(6):
        pool = set(ids.plan(epoch, torch.arange(SIZE)).indices.tolist())
        assert len(pool) < SIZE
        scored, opened = loader.stats.scored, set(loader.state_dict()["open"].tolist())
        given = flat(run_epoch(loader))
        assert len(given) > 0
        assert set(given) <= pool | opened
        # fresh at 0, stored at 1, fresh at 2; at 3 the hard set holds samples that were never scored
        assert loader.stats.scored - scored == (len(pool) if epoch in (0, 2, 3, 5) else 0)


def test_the_shortest_loss_age_counts() -> None:
    chain = setup(Adonis(stale_epochs=3, start_epoch=2) | StaleSB(staleness=2, start_epoch=4))
    assert [chain.loss_age(epoch) for epoch in range(6)] == [None, None, 3, 3, 2, 2]


def test_a_part_that_has_no_say_yet_keeps_all() -> None:
    chain = setup(Every(2) | SB(start_epoch=3))
    batch = Batch(0, 0, torch.arange(6), torch.zeros(6))
    assert chain.select(batch).tolist() == [0, 2, 4]


def test_needs_add_up() -> None:
    assert (RPD() | Adonis()).needs == {"score"}
    assert (RPD() | RS2()).needs == set()
    assert RPD.needs == set()


@pytest.mark.parametrize("name", [name for name in METHODS if "|" in name])
def test_every_part_reports_its_settings(name: str) -> None:
    chain = METHODS[name]()
    assert chain.settings() == {type(part).__name__: part.settings() for part in (chain.left, chain.right)}


def test_settings_of_three_parts_keep_all_three() -> None:
    text = str((RPD(keep_ratio=0.11) | RS2(keep_ratio=0.22) | RPD(keep_ratio=0.33)).settings())
    assert all(value in text for value in ("0.11", "0.22", "0.33"))


def test_only_selectors_compose() -> None:
    with pytest.raises(TypeError):
        RPD() | 3


def test_distances_are_those_of_the_part_that_has_them() -> None:
    alone = setup(IDS(features=embedding(), switch_epoch=4), targets=torch.zeros(SIZE, dtype=torch.int64))
    for make in (lambda part: part | RPD(), lambda part: RPD() | part, lambda part: ClassFloor(part, 0.1)):
        whole = make(IDS(features=embedding(), switch_epoch=4))
        setup(whole, targets=torch.zeros(SIZE, dtype=torch.int64))
        assert torch.equal(whole.distances(), alone.distances())
    assert setup(RPD() | RS2()).distances() is None
