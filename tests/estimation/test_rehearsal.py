"""The short training behind an estimate: what it times and which losses it keeps."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from leantrain.core.ledger import Ledger
from leantrain.estimation import rehearsal
from leantrain.estimation.rehearsal import SCORED, Costs, Stopwatch, rehearse
from leantrain.scoring.scorer import Scores

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes by hand: add to ``clock.seconds``."""
    clock = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(rehearsal, "synchronized_time", lambda device: clock.seconds)
    return clock


def test_each_part_of_a_step_is_timed_by_itself(clock):
    def score(batch):
        clock.seconds += 8.0
        return Scores(torch.zeros(batch))

    timed, parts = Stopwatch(score, CPU), {"forward": 2.0, "backward": 4.0, "optimizer": 1.0}
    for step in range(1, 2 * SCORED):
        clock.seconds += 50.0  # loading is not timed here
        timed("start", step, step)
        for part, seconds in parts.items():
            clock.seconds += seconds
            timed(part)
    steps = range(1, 2 * SCORED)
    assert {part: timed.costs[part] for part in parts} == {
        part: [pytest.approx(seconds / size) for size in steps] for part, seconds in parts.items()
    }
    assert timed.costs["score"] == [8.0, 8.0 / (1 + SCORED)]  # the first batch, and every fourth after it


def test_a_step_that_was_skipped_leaves_no_time(clock):
    timed = Stopwatch(lambda batch: Scores(torch.zeros(batch)), CPU)
    timed("start", 1, 1)
    clock.seconds += 5.0
    timed("start", 1, 1)
    clock.seconds += 2.0
    timed("forward")
    assert timed.costs["forward"] == [2.0]


def test_the_losses_are_those_after_each_epoch_and_the_costs_medians():
    asked = []

    def training(rows, epochs):
        asked.append((len(rows), epochs))
        assert len(set(rows.tolist())) == len(rows)
        ledger, timed = Ledger(len(rows)), Stopwatch(lambda batch: batch, CPU)
        stats = SimpleNamespace(fetch_cost=[1.0, 3.0, 200.0])
        for part, costs in timed.costs.items():
            costs += [len(part), len(part) + 1, 1000]
        for epoch in range(epochs):
            shown = torch.arange(len(rows) - 1)  # the last one never
            losses = torch.full((len(shown),), float(epoch))
            ledger.record_training(epoch, shown, losses, losses > 0, losses / 10)
            yield SimpleNamespace(ledger=ledger, stats=stats), timed

    loader = DataLoader(list(range(50)), batch_size=4)
    costs, found = rehearse(training, loader, epochs=3, seed=0, seconds=3 * 20 * (3 + 8 + 9 + 10 + 6 / SCORED))
    assert asked == [(8 * 4, 1), (20, 3)]  # eight batches first, then as many samples as three epochs allow
    assert costs == Costs(fetch=3.0, score=6, forward=8, backward=9, optimizer=10)
    assert found.losses.tolist() == [[float(epoch)] * 19 for epoch in range(3)]
    assert found.correct is not None
    assert found.correct.tolist() == [[epoch > 0] * 19 for epoch in range(3)]


def test_reading_hides_behind_work_where_workers_read():
    costs = {"score": 0.0, "forward": 0.0, "backward": 0.0, "optimizer": 0.0}
    assert Costs(fetch=2.0, **costs).read_and(3.0) == 5.0
    assert Costs(fetch=2.0, overlap=True, **costs).read_and(3.0) == 3.0
    assert Costs(fetch=4.0, overlap=True, **costs).read_and(3.0) == 4.0


def test_a_known_loss_without_classes_has_no_prediction():
    def training(rows, epochs):
        ledger, timed = Ledger(len(rows)), Stopwatch(lambda batch: batch, CPU)
        for costs in timed.costs.values():
            costs.append(1.0)
        ledger.record_training(0, torch.arange(len(rows)), torch.ones(len(rows)))
        yield SimpleNamespace(ledger=ledger, stats=SimpleNamespace(fetch_cost=[1.0])), timed

    _, found = rehearse(training, DataLoader(list(range(9)), batch_size=4), 1, 0, 100.0)
    assert (found.correct, found.confidence) == (None, None)
