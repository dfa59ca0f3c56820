"""FORGET: events counted from a history through the ledger, and what is dropped (references/forget.py)."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.forget as reference
from leantrain import RPD, Full, Ledger
from leantrain.methods.forget import Forget, forgetting_events
from toys import SIZE, flat, losses_at, run_epoch, setup, wrapped

INF = math.inf


def kept(selector: Forget, pool: torch.Tensor | None = None, epoch: int = 0, **facts: Any) -> list[int]:
    selector = setup(selector, **facts)
    return selector.plan(epoch, torch.arange(selector.run.size) if pool is None else pool).indices.tolist()


@given(
    history=st.integers(2, 8).flatmap(
        lambda epochs: st.lists(st.lists(st.booleans(), min_size=epochs, max_size=epochs), min_size=1, max_size=12)
    )
)
def test_events_of_a_history(history: list[list[bool]]) -> None:
    """``history[i][e]``: whether sample i was right in epoch e."""
    ledger, size = Ledger(len(history)), len(history)
    for epoch in range(len(history[0])):
        order = torch.randperm(size)
        for indices in order.split(5):
            correct = torch.tensor([history[i][epoch] for i in indices.tolist()])
            ledger.record_training(epoch, indices, torch.rand(len(indices)), correct)
            ledger.record_scores(epoch, indices, torch.rand(len(indices)), ~correct)  # scoring passes do not count
    events = forgetting_events(ledger)
    assert events.dtype == torch.float32
    assert events.tolist() == [reference.events(presentations) for presentations in history]


def test_events_by_hand() -> None:
    ledger = Ledger(6)
    rounds = [  # sample: right?  5 is never presented, 4 once
        {0: 1, 1: 0, 2: 1, 3: 0, 4: 1},
        {0: 1, 1: 0, 2: 0, 3: 1},
        {0: 1, 1: 0, 2: 1, 3: 1},
        {0: 1, 1: 0, 2: 0, 3: 0},
    ]
    for epoch, seen in enumerate(rounds):
        ledger.record_training(
            epoch, torch.tensor([*seen]), torch.ones(len(seen)), torch.tensor([*seen.values()], dtype=torch.bool)
        )
    assert forgetting_events(ledger).tolist() == [0, INF, 2, 1, 0, INF]


def test_a_probe_that_reported_no_predictions_is_refused() -> None:
    loader = wrapped(Full())
    run_epoch(loader)
    with pytest.raises(ValueError, match=r"no prediction made in training.*logits=logits, targets=targets"):
        forgetting_events(loader.ledger)


def test_from_a_probe_to_the_training() -> None:
    """The loop of the docstring: samples of even index are right in odd epochs only, the others always."""
    probe = wrapped(Full(), epochs=4)
    for epoch in range(4):
        for _ in probe:
            indices = probe.indices
            right = (indices % 2 == 1) | (epoch % 2 == 1)
            logits = torch.stack([right.float(), 1 - right.float()], dim=1)
            probe.reduce(losses_at(epoch, indices), logits=logits, targets=torch.zeros_like(indices))
    events = forgetting_events(probe.ledger)
    assert events.tolist() == [1.0, 0.0] * 20
    loader = wrapped(Forget(events=events, prune_ratio=0.5))
    for _ in range(2):
        assert sorted(flat(run_epoch(loader))) == list(range(0, SIZE, 2))


@given(
    order=st.permutations([INF, *range(20)]),
    prune_ratio=st.sampled_from(["0", "0.1", "0.3", "0.35", "0.99"]),
)
def test_the_least_forgotten_go(order: list[float], prune_ratio: str) -> None:
    ours = kept(Forget(events=torch.tensor(order), prune_ratio=float(prune_ratio)), size=21)
    assert ours == reference.kept(order, 21 - reference.dropped(21, prune_ratio))


def test_ties_are_drawn_evenly() -> None:
    events = torch.tensor([0.0] * 10 + [INF] * 2 + [3.0] * 2)
    times = torch.zeros(14)
    for seed in range(1000):
        times[kept(Forget(events=events, prune_ratio=0.5), size=14, seed=seed)] += 1
    assert times[10:].tolist() == [1000] * 4
    assert ((times[:10] / 1000 - 0.3).abs() < 5 * (0.3 * 0.7 / 1000) ** 0.5).all()


def test_same_seed_same_plan_in_every_epoch() -> None:
    plans = [kept(Forget(events=torch.zeros(SIZE)), epoch=epoch, seed=seed) for seed, epoch in [(0, 0), (0, 7), (1, 0)]]
    assert plans[0] == plans[1] != plans[2]


def test_within_a_pool() -> None:
    events = torch.arange(SIZE).float()
    assert kept(Forget(events=events, prune_ratio=0.25), torch.tensor([5, 1, 30, 2])) == [2, 5, 30]
    loader = wrapped(RPD(keep_ratio=0.5) | Forget(events=events, prune_ratio=0.5))
    assert len(flat(run_epoch(loader))) == 10


def test_a_data_set_of_one() -> None:
    assert kept(Forget(events=torch.zeros(1), prune_ratio=0.9), size=1) == [0]


@pytest.mark.parametrize(("probe_epochs", "expected"), [(20, 20), (1, 1), (0.2, 18), (0.001, 1), (1.0, 90)])
def test_a_callable_is_told_the_probe_epochs_once(probe_epochs: Any, expected: int) -> None:
    asked = []

    def events(epochs: int) -> torch.Tensor:
        asked.append(epochs)
        return torch.arange(SIZE)

    selector = setup(Forget(events=events, probe_epochs=probe_epochs), epochs=90)
    assert asked == []
    for epoch in range(3):
        assert selector.plan(epoch, torch.arange(SIZE)).indices.tolist() == list(range(12, SIZE))
    assert asked == [expected]


@pytest.mark.parametrize(("probe_epochs", "epochs"), [(20, 10), (10, 10), (3, 2.5)])
def test_a_probe_no_shorter_than_the_training_warns(probe_epochs: int, epochs: float) -> None:
    selector = Forget(events=lambda _: torch.zeros(SIZE), probe_epochs=probe_epochs)
    with pytest.warns(
        UserWarning, match=f"Forget with probe_epochs={probe_epochs} .* before a training of {epochs:g},"
    ):
        setup(RPD() | selector, epochs=epochs)


@pytest.mark.parametrize(("probe_epochs", "epochs"), [(9, 10), (1.0, 10), (20, None)])
def test_a_shorter_probe_or_a_share_does_not(probe_epochs: Any, epochs: float | None) -> None:
    setup(Forget(events=lambda _: torch.zeros(SIZE), probe_epochs=probe_epochs), epochs=epochs)
    setup(Forget(events=torch.zeros(SIZE), probe_epochs=99), epochs=1)  # nothing is probed


def test_the_state_holds_the_ranking() -> None:
    first = setup(Forget(events=lambda _: torch.zeros(SIZE)), epochs=90)
    plan = first.plan(0, torch.arange(SIZE))
    second = setup(Forget(events=lambda _: pytest.fail("asked again")), seed=5, epochs=90)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.plan(1, torch.arange(SIZE)).indices, plan.indices)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"prune_ratio": 1}, r"prune_ratio=1 is outside \[0, 1\)"),
        ({"prune_ratio": 30}, r"prune_ratio=30 .* pass 0\.3"),
        ({"prune_ratio": -0.1}, "prune_ratio=-0.1 is outside"),
        ({"probe_epochs": 0}, "probe_epochs=0 must be at least 1"),
        ({"probe_epochs": 0.0}, r"probe_epochs=0.0 is outside \(0, 1\]"),
        ({"probe_epochs": 1.5}, r"probe_epochs=1.5 is outside \(0, 1\]"),
        ({"events": [1, 2]}, r"events must be a \(N,\) tensor or a callable of the probe epochs"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        Forget(**({"events": torch.zeros(SIZE)} | settings))


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (torch.zeros(SIZE + 1), r"events have shape \(41,\); expected \(40,\)"),
        (torch.zeros(SIZE, 1), r"events have shape \(40, 1\)"),
        (torch.zeros(SIZE).index_fill(0, torch.tensor([3]), torch.nan), r"events of 1 samples are NaN, first \[3\]"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["given", "made later"])
def test_wrong_events(events: torch.Tensor, text: str, late: bool) -> None:
    with pytest.raises(ValueError, match=text):
        kept(Forget(events=(lambda _: events) if late else events), epochs=90)


def test_a_share_needs_the_length_of_the_training() -> None:
    with pytest.raises(ValueError, match=r"Forget with probe_epochs as a share of the training.*epochs=90"):
        setup(Forget(events=lambda _: torch.zeros(SIZE), probe_epochs=0.2), epochs=None)
    setup(Forget(events=torch.zeros(SIZE), probe_epochs=0.2), epochs=None)  # nothing is probed


def test_settings_leave_the_events_out() -> None:
    assert Forget(events=torch.zeros(1)).settings() == {"prune_ratio": 0.3, "probe_epochs": 20}
