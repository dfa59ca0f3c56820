"""IES against the histories of single samples (references/ies.py)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain import Ledger, Plan
from leantrain.methods.ies import IES
from references.ies import train
from toys import SIZE, Numbers, flat, setup, wrapped

# Eighths are exact in float32, so that a mean that equals the threshold equals it in the reference too.
LOSS = st.one_of(st.just(math.nan), st.integers(0, 8).map(lambda n: n / 8))
TABLES = st.integers(1, 12).flatmap(
    lambda size: st.lists(st.lists(LOSS, min_size=size, max_size=size), min_size=1, max_size=9)
)


def plans(selector: IES, table: list[list[float]]) -> list[Plan]:
    """The plan of each epoch, the losses of ``table`` being told in between."""
    size = len(table[0])
    ledger = Ledger(size)
    setup(selector, size=size, batch_size=1, ledger=ledger)
    found = []
    for epoch, losses in enumerate(table):
        found.append(selector.plan(epoch, torch.arange(size)))
        ledger.record_losses(epoch, torch.arange(size), torch.tensor(losses))
        selector.end_epoch(epoch)
    return found


@given(table=TABLES, threshold=st.sampled_from([0.0, 0.125, 0.25, 1.0]), window=st.integers(1, 3))
def test_who_is_trained_on(table: list[list[float]], threshold: float, window: int) -> None:
    table = [[*losses, epoch % 2 * 64.0] for epoch, losses in enumerate(table)]  # the last sample is never mastered
    size = len(table[0])
    wanted = train(table, threshold=threshold, window=window)
    for plan, used in zip(plans(IES(threshold=threshold, window=window), table), wanted, strict=True):
        assert plan.indices.tolist() == used
        refreshed = [] if plan.refresh is None else plan.refresh.tolist()
        assert refreshed == [i for i in range(size) if i not in used]


def test_a_straight_line_is_mastered_and_a_bend_brings_the_sample_back() -> None:
    line = [4.0, 3.5, 3.0, 2.5, 2.0, 4.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    zigzag = [1.0, 2.0] * 6
    found = plans(IES(window=1), [list(losses) for losses in zip(line, zigzag[:11], strict=True)])
    assert [0 in plan.indices for plan in found] == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 2
    assert all(1 in plan.indices for plan in found)


def test_where_all_is_mastered_a_batch_is_left_of_those_that_bend_most() -> None:
    selector = setup(IES(threshold=0.5, window=1))
    bend = torch.linspace(0, 0.1, SIZE)[torch.randperm(SIZE, generator=torch.Generator().manual_seed(0))]
    for epoch, losses in enumerate([torch.zeros(SIZE), torch.zeros(SIZE), bend]):
        selector.run.ledger.record_losses(epoch, torch.arange(SIZE), losses)
        selector.end_epoch(epoch)
    plan = selector.plan(3, torch.arange(SIZE))
    assert plan.indices.tolist() == sorted(bend.argsort()[-4:].tolist())
    assert plan.refresh is not None
    assert len(plan.refresh) == SIZE - 4
    assert selector.plan(3, torch.tensor([7])).indices.tolist() == [7]
    partly = selector._losses[:, :6].clone()
    partly[0, 2] = math.nan  # seen too few times: not mastered, and first among those that stay
    selector._losses[:, :6] = partly
    stay = sorted([2, *[i for i in bend[:6].argsort(descending=True).tolist() if i != 2][:3]])
    assert selector.plan(3, torch.arange(6)).indices.tolist() == stay
    selector._losses[0, 2] = 0
    assert selector.report() == {"mastered": SIZE}


def test_in_a_loader_the_mastered_are_scored_after_the_last_step() -> None:
    """Even samples have a steady loss, those of odd ones jump up and down."""
    data = Numbers()
    told: list[list[int]] = []

    def score(batch: list[torch.Tensor]) -> torch.Tensor:
        told.append(batch[0].tolist())
        return torch.where(batch[0] % 2 == 0, 1.0, 2.0 + loader.epoch % 2)

    loader = wrapped(IES(), data, score=score, epochs=9)
    for epoch in range(9):
        told.clear()
        data.reads.clear()
        trained = []
        for _ in loader:
            if loader.stats.steps == 0:
                told.clear()  # the scoring function was tried on the first batch
            assert not told
            trained += loader.indices.tolist()
            loader.reduce(torch.where(loader.indices % 2 == 0, 1.0, 2.0 + epoch % 2))
        everything, odd = list(range(SIZE)), list(range(1, SIZE, 2))
        assert sorted(trained) == (everything if epoch < 5 else odd)
        assert sorted(flat(told)) == ([] if epoch < 5 else list(range(0, SIZE, 2)))
        assert sorted(data.reads) == everything
    assert loader.ledger.trained[0] == 5
    assert loader.stats.scored == 4 * 20


def test_the_state_carries_the_history() -> None:
    table = torch.rand(8, SIZE, generator=torch.Generator().manual_seed(4)).mul(1e-3).tolist()
    straight = IES(threshold=4e-4)
    whole = plans(straight, table)
    first = IES(threshold=4e-4)
    plans(first, table[:6])
    state = {name: value.clone() for name, value in first.state_dict().items()}
    ledger = Ledger(SIZE)
    resumed = setup(IES(threshold=4e-4), batch_size=1, ledger=ledger)
    resumed.load_state_dict(state)
    for epoch in (6, 7):
        plan = resumed.plan(epoch, torch.arange(SIZE))
        assert plan.indices.tolist() == whole[epoch].indices.tolist()
        ledger.record_losses(epoch, torch.arange(SIZE), torch.tensor(table[epoch]))
        resumed.end_epoch(epoch)
    assert 0 < len(whole[7].indices) < SIZE
    assert torch.equal(first.state_dict()["losses"], state["losses"])


def test_a_scoring_function_is_needed() -> None:
    with pytest.raises(ValueError, match=r"IES judges samples by their losses and needs a scoring function"):
        wrapped(IES(), score=None)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"threshold": -1}, "threshold=-1 must be a finite number above 0"),
        ({"threshold": math.nan}, "threshold=nan must be a finite number above 0"),
        ({"window": 0}, "window=0 must be at least 1"),
    ],
)
def test_bad_settings(settings: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        IES(**settings)  # pyright: ignore[reportArgumentType]
