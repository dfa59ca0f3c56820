"""``Record`` writes down what any method chose, ``Replay`` trains on exactly that, and nothing else is taken for it."""

import io
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from leantrain import RPD, SB, Adonis, InfoBatch, Loader, Plan, Selector
from leantrain.methods.class_floor import ClassFloor
from leantrain.replay import parquet_parts
from leantrain.replay.record_replay import Record, Replay, first_of_each
from toys import EACH_METHOD, EACH_WAY, METHODS, SIZE, Numbers, flat, losses_at, run_epoch, setup, wrapped

EPOCHS = 5


class Planned(Selector):
    """An epoch-level method that plans what it is told, in turn; ``refresh`` and ``lr_factor`` included."""

    def __init__(self, *plans: Plan) -> None:
        self.plans = plans

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return self.plans[epoch % len(self.plans)]


class EveryOther(Selector):
    """An online method with weights that judges every other batch only, and keeps the first half of it."""

    needs = frozenset({"score"})

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return Plan(pool, 1 + pool / 8)

    def loss_age(self, epoch: int) -> int:
        return 1

    def judges(self, epoch: int, number: int) -> bool:
        return number % 2 == 1

    def select(self, batch: Any) -> Tensor:
        return torch.arange(len(batch.indices) // 2)


def logits_of(indices: Tensor) -> Tensor:
    return torch.rand(len(indices), 4, generator=torch.Generator().manual_seed(len(indices)))


def train(loader: Loader) -> list[list[int]]:
    """One epoch, telling also of predictions and following the learning rate: the indices of each batch."""
    given = []
    assert loader.lr_factor > 0
    for _, targets in loader:
        given.append(loader.indices.tolist())
        loader.reduce(losses_at(loader.epoch, loader.indices), logits_of(loader.indices), targets)
    return given


def record(selector: Selector, folder: Path, *, epochs: int = EPOCHS, **options: Any) -> Loader:
    loader = wrapped(Record(selector, folder), epochs=epochs, **options)
    for _ in range(epochs):
        train(loader)
    return loader


def replay(folder: Path, *, epochs: float = EPOCHS, wrap_around: bool = False, **options: Any) -> Loader:
    return wrapped(Replay(path=folder, wrap_around=wrap_around), epochs=epochs, score=None, **options)


def weights_of(plan: Plan) -> dict[int, float]:
    weights = torch.ones(len(plan.indices)) if plan.weights is None else plan.weights
    return dict(zip(plan.indices.tolist(), weights.tolist(), strict=True))


# What is replayed is what was recorded.


@pytest.mark.parametrize("method", EACH_METHOD)
def test_replays_what_any_method_trained_on(method: str, tmp_path: Path) -> None:
    inner = METHODS[method]()
    loader = wrapped(Record(inner, tmp_path), epochs=EPOCHS, shuffle=True)
    trained, plans = [], []
    for _ in range(EPOCHS):
        plans.append(loader.plan)
        trained.append(train(loader))

    again = replay(tmp_path, shuffle=True)
    assert again.selector.needs == frozenset()
    replayed = []
    for epoch in range(EPOCHS):
        planned = weights_of(plans[epoch])  # what waited since the epoch before may not be among it
        assert weights_of(again.plan) == {index: planned.get(index, 1.0) for index in flat(trained[epoch])}
        assert again.plan.lr_factor == plans[epoch].lr_factor
        batches = train(again)
        assert Counter(flat(batches)) == Counter(flat(trained[epoch]))
        if inner.loss_age(epoch) is None and plans[epoch].batch_sizes is not None:
            assert batches == [batch.tolist() for batch in plans[epoch].indices.split(list(plans[epoch].batch_sizes))]
        replayed += flat(batches)
    assert again.stats.scored == 0
    assert again.stats.trained == len(replayed)


def test_repeats_keep_their_order_weights_and_factor(tmp_path: Path) -> None:
    indices, weights = torch.tensor([3, 1, 3, 0, 39, 1, 7, 3]), torch.tensor([2.0, 0.5, 2, 1, 3, 0.5, 1, 2])
    record(Planned(Plan(indices, weights, lr_factor=1.25)), tmp_path, epochs=1)
    loader = replay(tmp_path, epochs=1, shuffle=True)
    assert loader.plan.lr_factor == 1.25
    assert torch.equal(loader.plan.indices, indices)
    assert torch.equal(loader.plan.weights, weights)
    assert train(loader) == [[3, 1, 3, 0], [39, 1, 7, 3]]


def test_batches_stay_as_they_were(tmp_path: Path) -> None:
    first = Plan(torch.tensor([5, 2, 9, 0, 8, 30]), batch_sizes=(1, 3, 2))
    second = Plan(torch.arange(SIZE), torch.ones(SIZE))
    record(Planned(first, second), tmp_path, epochs=2)
    loader = replay(tmp_path, epochs=2, shuffle=True)
    assert loader.plan.batch_sizes == (1, 3, 2)
    assert train(loader) == [[5], [2, 9, 0], [8, 30]]
    assert (loader.plan.batch_sizes, loader.plan.weights) == (None, None)  # weights of 1 are none


def test_samples_that_were_refreshed_are_not_scored_again(tmp_path: Path) -> None:
    record(Planned(Plan(torch.arange(20), refresh=torch.arange(20, 40))), tmp_path, epochs=1)
    loader = replay(tmp_path, epochs=1)
    assert loader.plan.refresh is None
    train(loader)
    assert loader.stats.loaded == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_not_judged_are_kept_whole_and_in_place(workers: int, tmp_path: Path) -> None:
    record(EveryOther(), tmp_path, epochs=1, num_workers=workers)
    plan = setup(Replay(path=tmp_path), epochs=1).plan(0, torch.arange(SIZE))
    expected = [
        i for start in range(0, SIZE, 8) for i in (start, start + 1, start + 2, start + 3, start + 4, start + 5)
    ]
    assert plan.indices.tolist() == expected
    assert plan.weights.tolist() == [1 + i / 8 for i in expected]


def test_within_a_pool_only_its_samples_are_used(tmp_path: Path) -> None:
    plan = Plan(torch.tensor([4, 1, 6, 3, 5, 4]), torch.tensor([2.0, 3, 4, 5, 6, 2]), (2, 1, 2, 1), 1.5)
    record(Planned(plan), tmp_path, epochs=1)
    even = setup(Replay(path=tmp_path), epochs=1).plan(0, torch.arange(0, SIZE, 2))
    assert (even.indices.tolist(), even.weights.tolist()) == ([4, 6, 4], [2, 4, 2])
    assert (even.batch_sizes, even.lr_factor) == ((1, 1, 1), 1.5)
    chain = setup(RPD(keep_ratio=0.5) | Replay(path=tmp_path), epochs=1)
    half = set(chain.left.plan(0, torch.arange(SIZE)).indices.tolist())
    assert chain.plan(0, torch.arange(SIZE)).indices.tolist() == [i for i in plan.indices.tolist() if i in half]


def test_wrap_around_starts_over(tmp_path: Path) -> None:
    record(METHODS["rs2"](), tmp_path, epochs=3)
    loader = replay(tmp_path, epochs=7, wrap_around=True)
    given = [train(loader) for _ in range(7)]
    assert given[3:6] == given[:3]
    assert given[6] == given[0]
    assert given[0] != given[1] != given[2]


def test_a_run_of_unknown_length_ends_with_the_recording(tmp_path: Path) -> None:
    record(METHODS["rs2"](), tmp_path, epochs=2)
    loader = replay(tmp_path, epochs=None)
    train(loader)
    train(loader)
    with pytest.raises(ValueError, match="holds 2 epochs; this run goes on to epoch 2, counted from 0"):
        train(loader)


def test_a_shorter_run_is_fine(tmp_path: Path) -> None:
    record(METHODS["rs2"](), tmp_path, epochs=3)
    (tmp_path / "epoch-00002.parquet").write_bytes(b"torn, and not needed")
    with pytest.raises(ValueError, match="epoch-00002"):  # but a recording is whole or it is none
        replay(tmp_path, epochs=2)
    (tmp_path / "epoch-00002.parquet").unlink()
    train(replay(tmp_path, epochs=2))


def test_settings_name_the_method_and_no_path(tmp_path: Path) -> None:
    record(RPD(keep_ratio=0.6) | SB(start_epoch=9), tmp_path, epochs=2)
    found = Replay(path=tmp_path).settings()
    assert found == {
        "method": "RPD | SB",
        "settings": {"RPD": {"keep_ratio": 0.6}, "SB": SB(start_epoch=9).settings()},
        "recorded_epochs": 2,
        "wrap_around": False,
    }
    assert str(tmp_path) not in json.dumps(found)


# What is recorded is what was trained on.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.filterwarnings("ignore:Epoch . was left before")
def test_an_epoch_that_was_left_early_has_what_was_trained_on(method: str, stop: int, tmp_path: Path) -> None:
    loader = wrapped(Record(METHODS[method](), tmp_path), epochs=EPOCHS, shuffle=True)
    trained = []
    for epoch in range(EPOCHS):
        trained.append([])
        for number, (_, targets) in enumerate(loader):
            trained[-1] += loader.indices.tolist()
            loader.reduce(losses_at(epoch, loader.indices), logits_of(loader.indices), targets)
            if number + 1 == stop:
                break
        assert loader.lr_factor > 0
    loader.end_epoch()
    found = [parquet_parts.read(tmp_path / parquet_parts.name(epoch)) for epoch in range(EPOCHS)]
    assert [Counter(plan.indices.tolist()) for plan in found] == [*map(Counter, trained)]
    for plan in found:
        assert plan.batch_sizes is None or sum(plan.batch_sizes) == len(plan.indices)


def test_the_order_of_repeats_is_kept_as_far_as_it_was_trained(tmp_path: Path) -> None:
    indices = torch.tensor([3, 1, 3, 0, 39, 1, 7, 3, 5, 5, 5, 2])
    loader = wrapped(Record(Planned(Plan(indices)), tmp_path), epochs=1, shuffle=True)
    for number, _ in enumerate(loader):
        loader.reduce(losses_at(0, loader.indices))
        if number == 1:
            break
    loader.end_epoch()
    assert parquet_parts.read(tmp_path / parquet_parts.name(0)).indices.tolist() == indices[:8].tolist()


def test_a_short_last_batch_that_is_dropped_is_not_recorded(tmp_path: Path) -> None:
    loader = wrapped(Record(RPD(keep_ratio=0.55), tmp_path), epochs=2, shuffle=True, drop_last=True)
    for epoch in range(2):
        given = train(loader)
        assert len(flat(given)) == 20  # of 22
        recorded = parquet_parts.read(tmp_path / parquet_parts.name(epoch)).indices
        assert sorted(flat(given)) == sorted(recorded.tolist())
    assert len(flat(train(replay(tmp_path, epochs=2, shuffle=True, drop_last=True)))) == 20


def test_what_an_online_method_kept_stands_in_the_epoch_that_trains_on_it(tmp_path: Path) -> None:
    class Thirteen(EveryOther):
        """Keeps 3 of each of ten batches but the last, so 27 an epoch: 3 of them wait for the next one."""

        def plan(self, epoch: int, pool: Tensor) -> Plan:
            return Plan(pool)

        def judges(self, epoch: int, number: int) -> bool:
            return True

        def select(self, batch: Any) -> Tensor:
            return torch.arange(3 if batch.number < 9 else 0)

    loader = wrapped(Record(Thirteen(), tmp_path), epochs=3)
    given = [flat(train(loader)) for _ in range(3)]
    assert [len(epoch) for epoch in given] == [24, 28, 29]
    for epoch, indices in enumerate(given):
        assert parquet_parts.read(tmp_path / parquet_parts.name(epoch)).indices.tolist() == indices


class Flaky(Numbers):
    def __getitem__(self, index: int) -> tuple[int, int]:
        if index % 10 == 7:
            raise OSError("no picture")
        return super().__getitem__(index)


@pytest.mark.parametrize("method", ["full", "sb", "random-pb", "iswr"])
@pytest.mark.filterwarnings("ignore:Sample .* cannot be read")
def test_samples_that_cannot_be_read_are_not_recorded(method: str, tmp_path: Path) -> None:
    loader = wrapped(Record(METHODS[method](), tmp_path), Flaky(), epochs=2, shuffle=True, unreadable="skip")
    for epoch in range(2):
        given = flat(train(loader))
        assert not [index for index in given if index % 10 == 7]
        plan = parquet_parts.read(tmp_path / parquet_parts.name(epoch))
        assert Counter(plan.indices.tolist()) == Counter(given)


def test_a_loop_that_tells_no_losses_has_the_plan_recorded(tmp_path: Path) -> None:
    loader = wrapped(Record(RPD(keep_ratio=0.5), tmp_path), epochs=1)
    planned = loader.plan.indices.tolist()
    assert [len(indices) for indices, _ in loader] == [4] * 5
    assert parquet_parts.read(tmp_path / parquet_parts.name(0)).indices.tolist() == planned


@pytest.mark.parametrize("method", ["full", "sb", "iswr", "infobatch"])
@pytest.mark.parametrize("batches", [1, 3])
def test_a_resume_within_an_epoch_records_all_of_it(method: str, batches: int, tmp_path: Path) -> None:
    def fresh(folder: str) -> Loader:
        order = torch.Generator().manual_seed(0)
        return wrapped(Record(METHODS[method](), tmp_path / folder), epochs=2, shuffle=True, generator=order)

    def train_on(loader: Loader, count: int) -> None:
        for number, _ in enumerate(loader):
            loader.reduce(losses_at(1, loader.indices))
            if number + 1 == count:
                break

    straight, cut = fresh("straight"), fresh("cut")
    run_epoch(straight)
    run_epoch(cut)
    train_on(straight, 4)  # of five or more
    straight.end_epoch()
    train_on(cut, batches)
    file = io.BytesIO()
    torch.save(cut.state_dict(), file)
    file.seek(0)
    resumed = fresh("cut")
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train_on(resumed, 4 - batches)
    resumed.end_epoch()
    assert contents(tmp_path / "cut") == contents(tmp_path / "straight")


def test_a_state_of_before_counts_were_kept_records_the_plan(tmp_path: Path) -> None:
    first = setup(Record(RPD(keep_ratio=0.5), tmp_path))
    planned = first.plan(0, torch.arange(SIZE)).indices
    state = first.state_dict()
    del state["before"], state["waiting"]
    second = setup(Record(RPD(keep_ratio=0.5), tmp_path))
    second.load_state_dict(state)
    second.run.ledger.record_training(0, planned[:4], torch.ones(4))
    second.end_epoch(0)
    assert torch.equal(parquet_parts.read(tmp_path / parquet_parts.name(0)).indices, planned)


@given(
    queue=st.lists(st.integers(0, 5), max_size=30),
    counts=st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_the_first_of_each_are_taken(queue: list[int], counts: list[int]) -> None:
    left, expected = list(counts), []
    for index in queue:
        left[index] -= 1
        expected.append(left[index] >= 0)
    assert first_of_each(torch.tensor(queue, dtype=torch.int64), torch.tensor(counts)).tolist() == expected


def test_sorted_draws_of_an_older_recording_are_shuffled(tmp_path: Path) -> None:
    """ISWR's draws came sorted once, and the order of repeats holds: on sorted data a batch had one class."""
    indices = torch.arange(SIZE // 2).repeat_interleave(2)
    weights = 1 + indices.float()
    record(Planned(Plan(indices, weights)), tmp_path, epochs=1)
    path = tmp_path / parquet_parts.name(0)
    header = {name: value for name, value in parquet_parts.read_header(path).items() if name != "version"}
    parquet_parts.write(path, header, Plan(indices, weights))
    found = setup(Replay(path=tmp_path), epochs=1).plan(0, torch.arange(SIZE))
    assert Counter(found.indices.tolist()) == Counter(indices.tolist())
    assert found.weights.tolist() == [1 + i for i in found.indices.tolist()]
    assert (found.indices.diff() < 0).sum() > 10
    assert torch.equal(setup(Replay(path=tmp_path), epochs=1).plan(0, torch.arange(SIZE)).indices, found.indices)


# Recording changes nothing, goes on where it was, and mixes with no other.


@pytest.mark.parametrize("method", EACH_WAY)
def test_recording_changes_nothing(method: str, tmp_path: Path) -> None:
    plain, recorded = wrapped(METHODS[method]()), wrapped(Record(METHODS[method](), tmp_path))
    assert recorded.selector.needs == plain.selector.needs
    assert [train(recorded) for _ in range(6)] == [train(plain) for _ in range(6)]
    assert recorded.selector.report() == plain.selector.report()
    assert recorded.selector.settings() == plain.selector.settings()


@pytest.mark.parametrize("wrapper", [lambda inner, path: Record(inner, path), lambda inner, path: ClassFloor(inner)])
def test_the_method_is_told_of_everything(wrapper: Any, tmp_path: Path) -> None:
    calls = []

    class Spy(EveryOther):
        def select(self, batch: Any) -> Tensor:
            calls.append(("select", batch.epoch, batch.number))
            return super().select(batch)

        def pass_over(self, epoch: int, number: int, indices: Tensor) -> None:
            calls.append(("pass over", epoch, number))

        def end_epoch(self, epoch: int) -> None:
            calls.append(("end", epoch))

    loader = wrapped(wrapper(Spy(), tmp_path), epochs=2)
    for epoch in range(2):
        calls.clear()
        train(loader)
        judged = [("select" if number % 2 else "pass over", epoch, number) for number in range(10)]
        assert calls == [*judged, ("end", epoch)]


def test_traits_are_those_of_the_method() -> None:
    inner = EveryOther()
    inner.refill, inner.scale_factor, inner.scoring_batches = False, 0.5, 3
    outer = Record(inner, "nowhere")
    assert (outer.refill, outer.scale_factor, outer.scoring_batches) == (False, 0.5, 3)


@pytest.mark.parametrize("method", ["rs2", "adonis", "stale-sb", "infobatch|rs2"])
@pytest.mark.parametrize("before", [1, 3])
def test_a_resumed_recording_is_the_straight_one(method: str, before: int, tmp_path: Path) -> None:
    straight = wrapped(Record(METHODS[method](), tmp_path / "straight"), epochs=EPOCHS)
    cut = wrapped(Record(METHODS[method](), tmp_path / "cut"), epochs=EPOCHS)
    for _ in range(EPOCHS):
        train(straight)
    for _ in range(before):
        train(cut)
    len(cut)  # a progress bar makes the next plan, which is made again after loading
    file = io.BytesIO()
    torch.save(cut.state_dict(), file)
    file.seek(0)
    train(cut)  # an epoch after the copy, done again below

    resumed = wrapped(Record(METHODS[method](), tmp_path / "cut"), epochs=EPOCHS)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(before, EPOCHS):
        train(resumed)
    assert contents(tmp_path / "cut") == contents(tmp_path / "straight")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_state_within_an_epoch_carries_what_was_kept(tmp_path: Path) -> None:
    ledger_losses = torch.arange(4.0)
    batches = [torch.arange(start, start + 4) for start in (0, 4, 8)]

    def judge(selector: Any, number: int) -> None:
        from leantrain import Batch

        selector.select(Batch(0, number, batches[number], ledger_losses))

    first = setup(Record(EveryOther(), tmp_path / "a"))
    first.plan(0, torch.arange(SIZE))
    first.pass_over(0, 0, batches[0])
    state = first.state_dict()
    judge(first, 1)
    assert len(state["kept"]) == 1  # a copy
    second = setup(Record(EveryOther(), tmp_path / "b"))
    second.load_state_dict(state)
    judge(second, 1)
    for selector in (first, second):
        judge(selector, 2)
        selector.end_epoch(0)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert parquet_parts.read(tmp_path / "a" / parquet_parts.name(0)).indices.tolist() == [0, 1, 2, 3, 4, 5, 8, 9]


def test_a_look_at_some_batches_is_not_recorded(tmp_path: Path) -> None:
    loader = wrapped(Record(METHODS["adonis"](), tmp_path), epochs=1)
    for _, _ in zip(range(3), loader, strict=False):
        pass
    given = train(loader)
    assert Counter(flat(given)) == Counter(parquet_parts.read(tmp_path / parquet_parts.name(0)).indices.tolist())


def test_resuming_drops_the_epochs_that_it_trains_again(tmp_path: Path) -> None:
    loader = wrapped(Record(METHODS["rs2"](), tmp_path))
    train(loader)
    state = loader.state_dict()
    for _ in range(3):
        train(loader)
    loader = wrapped(Record(METHODS["rs2"](), tmp_path))
    loader.load_state_dict(state)
    assert len(contents(tmp_path)) == 4  # nothing is gone before something is done
    train(loader)
    assert sorted(contents(tmp_path)) == ["epoch-00000.parquet", "epoch-00001.parquet"]


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (lambda path: wrapped(Record(RPD(keep_ratio=0.7), path)), r"its settings is \{'keep_ratio': 0.6\}.*0\.7"),
        (lambda path: wrapped(Record(METHODS["rs2"](), path)), "its method is 'RPD', this run's is 'RS2'"),
        (lambda path: wrapped(Record(METHODS["rpd"](), path), seed=1), "its seed is 0, this run's is 1"),
        (lambda path: wrapped(Record(METHODS["rpd"](), path), range(SIZE)), "its fingerprint is"),
    ],
)
def test_a_folder_with_another_recording_is_refused(other: Any, text: str, tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path, epochs=1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=text):
        other(tmp_path)
    assert contents(tmp_path) == before


def test_the_same_recording_again_needs_a_state_or_permission(tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path, epochs=3)
    loader = wrapped(Record(METHODS["rpd"](), tmp_path), epochs=3)
    with pytest.raises(ValueError, match=r"holds 3 epochs of a recording.*load its state_dict.*overwrite=True"):
        train(loader)
    loader = wrapped(Record(METHODS["rs2"](), tmp_path, overwrite=True), epochs=3)
    assert len(contents(tmp_path)) == 3
    train(loader)
    assert len(contents(tmp_path)) == 1
    assert Replay(path=tmp_path).settings()["method"] == "RS2"


def test_a_recording_cannot_start_in_the_middle(tmp_path: Path) -> None:
    state = record(METHODS["rpd"](), tmp_path / "first", epochs=2).state_dict()
    loader = wrapped(Record(METHODS["rpd"](), tmp_path / "second"))
    loader.load_state_dict(state)
    with pytest.raises(ValueError, match=r"goes on at epoch 2, but .*second lacks epoch 0"):
        train(loader)


def test_overwriting_does_not_go_on_with_another_recording(tmp_path: Path) -> None:
    state = record(METHODS["rpd"](), tmp_path / "mine", epochs=1).state_dict()
    record(RPD(keep_ratio=0.3), tmp_path / "other", epochs=1)
    loader = wrapped(Record(METHODS["rpd"](), tmp_path / "other", overwrite=True))
    loader.load_state_dict(state)
    with pytest.raises(ValueError, match="its settings is"):
        train(loader)


def killed_at_its_fourth_part(folder: Path) -> None:
    """A training, in a process of its own."""
    move, moved = os.replace, []

    def replace(*paths: Any) -> None:
        moved.append(paths)
        move(*paths) if len(moved) < 4 else os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
    loader = wrapped(Record(RPD(keep_ratio=0.6), folder), epochs=9)
    while True:
        run_epoch(loader)


def test_a_killed_run_leaves_the_epochs_that_it_finished(tmp_path: Path) -> None:
    """Killed while the fourth part is moved to its place: three epochs and a partial file are there."""
    process = multiprocessing.get_context("fork").Process(target=killed_at_its_fourth_part, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(ValueError, match="holds 3 epochs of 9, its run was cut short; this run has 4"):
        replay(tmp_path, epochs=4)
    loader = replay(tmp_path, epochs=3)
    straight = wrapped(RPD(keep_ratio=0.6), epochs=3)
    assert [train(loader) for _ in range(3)] == [train(straight) for _ in range(3)]


# What is no recording of this data set is refused, before the training starts.


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"holds no recording. Make one: wrap\(loader, Record"):
            replay(folder)


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path)
    with pytest.raises(ValueError, match=r"recorded on another data set: 40 samples.*This one has 41"):
        replay(tmp_path, dataset=range(SIZE + 1))
    with pytest.raises(ValueError, match="recorded on another data set: 40 samples, fingerprint"):
        replay(tmp_path, dataset=range(SIZE))  # as many, without the labels


@pytest.mark.parametrize("epochs", [6, 5.5])
def test_a_recording_that_is_too_short_is_refused(epochs: float, tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path)
    with pytest.raises(ValueError, match=f"holds 5 epochs; this run has {epochs}.*wrap_around=True"):
        replay(tmp_path, epochs=epochs)


@pytest.mark.parametrize("gone", [0, 2])
def test_a_gap_is_refused(gone: int, tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path)
    (tmp_path / parquet_parts.name(gone)).unlink()
    for epochs in (2, 5):
        with pytest.raises(ValueError, match=f"lacks epoch {gone}, but has later ones"):
            replay(tmp_path, epochs=epochs)


def test_parts_of_two_recordings_are_refused(tmp_path: Path) -> None:
    record(RPD(keep_ratio=0.5), tmp_path / "a", epochs=2)
    record(RPD(keep_ratio=0.6), tmp_path / "b", epochs=2)
    (tmp_path / "b" / parquet_parts.name(1)).replace(tmp_path / "a" / parquet_parts.name(1))
    with pytest.raises(ValueError, match=r"epoch-00001\.parquet belongs to another recording.*settings differs"):
        replay(tmp_path / "a", epochs=2)


def test_a_part_under_another_epochs_name_is_refused(tmp_path: Path) -> None:
    record(METHODS["rs2"](), tmp_path, epochs=2)
    (tmp_path / parquet_parts.name(1)).replace(tmp_path / parquet_parts.name(0))
    with pytest.raises(ValueError, match="holds epoch 1, which its name does not say"):
        replay(tmp_path, epochs=1)


def test_an_epoch_without_a_sample_is_refused(tmp_path: Path) -> None:
    class Nothing(Planned):
        def loss_age(self, epoch: int) -> int:
            return 1

        def select(self, batch: Any) -> Tensor:
            return torch.empty(0, dtype=torch.int64)

    with pytest.warns(UserWarning, match="kept too few samples"):
        record(Nothing(Plan(torch.arange(SIZE))), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="no sample was kept in epoch 0"):
        replay(tmp_path, epochs=1)


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"index": [1, 2, 3]}), tmp_path / parquet_parts.name(0))
    with pytest.raises(ValueError, match=r"epoch-00000\.parquet is no part of a recording.*has no header"):
        replay(tmp_path)
    with pytest.raises(ValueError, match="has no header"):
        wrapped(Record(RPD(), tmp_path))


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path, epochs=2)
    for name in ("notes.txt", "epoch-2.parquet", ".epoch-00002.parquet.17.part", "epoch-000002.parquet", "x.parquet"):
        (tmp_path / name).write_bytes(b"PAR1")
    train(replay(tmp_path, epochs=2))


def rewritten(folder: Path, header: Any = None, digest: bool = True, **columns: Any) -> None:
    """Write the first part again with fields of the header, and columns, that ``Record`` would not write."""
    path = folder / parquet_parts.name(0)
    table = pq.read_table(path)
    found = json.loads(table.schema.metadata[parquet_parts.HEADER])
    text = header.encode() if isinstance(header, str) else json.dumps(found | (header or {})).encode()
    table = pa.table({name: table[name] for name in table.column_names} | columns)
    plain = {name: table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in table.column_names}
    metadata = {parquet_parts.HEADER: text}
    if digest:
        metadata[parquet_parts.DIGEST] = parquet_parts._digest(text, plain)
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    "header",
    [
        {"epochs": -1},
        {"epochs": 0},
        {"epochs": float("nan")},
        {"epochs": float("inf")},
        {"epochs": "five"},
        {"epochs": 10**400},
        {"epochs": [5]},
        {"size": "40"},
        {"size": -40},
        {"size": 10**30},
        {"size": 40.0},
        {"size": True},
        {"size": None},
        {"size": {"a": 1}},
        {"epoch": -1},
        {"epoch": 10**30},
        {"epoch": "0"},
        {"epoch": 1},
        {"seed": -1},
        {"seed": 0.5},
        {"lr_factor": 0},
        {"lr_factor": -2},
        {"lr_factor": "fast"},
        {"lr_factor": float("nan")},
        {"fingerprint": 7},
        {"fingerprint": None},
        {"method": ["RPD"]},
        {"settings": "none"},
        {"version": 2},
        {"version": None},
        "",
        "{",
        "[]",
        "null",
        "7",
        "[" * 100_000,
        "{}",
        '{"version": 1}',
    ],
)
def test_an_absurd_header_is_refused(header: Any, tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path, epochs=1)
    rewritten(tmp_path)
    replay(tmp_path, epochs=1)  # as it should be
    rewritten(tmp_path, header)
    with pytest.raises(ValueError, match=r"epoch-00000\.parquet is no part of|another data set: 10+ samples"):
        replay(tmp_path, epochs=1)


KEPT = 24  # samples that "rpd" of the toys keeps


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"index": pa.array([-1] * KEPT, pa.int32())}, "names samples -1 to -1 of 40"),
        ({"index": pa.array([40] * KEPT, pa.int64())}, "names samples 40 to 40 of 40"),
        ({"index": pa.array([1.0] * KEPT)}, "has the columns {'index': 'double'}"),
        ({"index": pa.array([None] + [1] * (KEPT - 1), pa.int32())}, "has the columns"),
        ({"weight": pa.array([-1.0] * KEPT, pa.float32())}, "weights that are negative or not finite"),
        ({"weight": pa.array([float("nan")] * KEPT, pa.float32())}, "weights that are negative or not finite"),
        ({"weight": pa.array(["a"] * KEPT)}, "has the columns"),
        ({"batch": pa.array([1] * KEPT, pa.int32())}, "does not number its batches"),
        ({"batch": pa.array([0, 2] * (KEPT // 2), pa.int32())}, "does not number its batches"),
        ({"batch": pa.array([0, 1] * (KEPT // 2), pa.int32())}, "does not number its batches"),
        ({"other": pa.array([0] * KEPT, pa.int32())}, "has the columns"),
    ],
)
def test_absurd_columns_are_refused(columns: Any, text: str, tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path, epochs=1)
    rewritten(tmp_path, **columns)
    with pytest.raises(ValueError, match=text):
        replay(tmp_path, epochs=1)


@pytest.mark.parametrize("change", [{"header": {"lr_factor": 2.0}}, {"index": pa.array(range(KEPT), pa.int32())}])
def test_a_change_under_the_same_digest_is_refused(change: Any, tmp_path: Path) -> None:
    record(METHODS["rpd"](), tmp_path, epochs=1)
    before = pq.read_table(tmp_path / parquet_parts.name(0)).schema.metadata[parquet_parts.DIGEST]
    rewritten(tmp_path, digest=False, **change)
    table = pq.read_table(tmp_path / parquet_parts.name(0))
    metadata = table.schema.metadata | {parquet_parts.DIGEST: before}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / parquet_parts.name(0))
    with pytest.raises(ValueError, match="do not match their digest"):
        replay(tmp_path, epochs=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The only part of a recording with all three columns, and its bytes."""
    folder = tmp_path_factory.mktemp("whole")
    indices = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1))
    record(Planned(Plan(indices, indices / 7, (4,) * 10)), folder, epochs=1)
    return folder, (folder / parquet_parts.name(0)).read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_a_torn_part_is_refused(whole: tuple[Path, bytes], data: st.DataObject) -> None:
    folder, content = whole
    length = data.draw(st.integers(0, len(content) - 1))
    (folder / parquet_parts.name(0)).write_bytes(content[:length])
    with pytest.raises(ValueError, match=r"epoch-00000\.parquet is cut off or damaged"):
        replay(folder, epochs=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_a_damaged_part_is_refused_or_the_damage_does_not_matter(
    whole: tuple[Path, bytes], data: st.DataObject
) -> None:
    folder, content = whole
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = folder / parquet_parts.name(0)
    path.write_bytes(content)
    expected = parquet_parts.read(path)
    path.write_bytes(damaged)
    try:
        found = setup(Replay(path=folder), epochs=1).plan(0, torch.arange(SIZE))
    except ValueError:
        return
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.weights, expected.weights)
    assert (found.batch_sizes, found.lr_factor) == (expected.batch_sizes, expected.lr_factor)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    indices=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=60),
    weighted=st.booleans(),
    cuts=st.none() | st.lists(st.integers(0, 60), max_size=8),
    factor=st.floats(1e-3, 1e3),
    data=st.data(),
)
def test_any_plan_comes_back(
    tmp_path: Path, indices: list[int], weighted: bool, cuts: list[int] | None, factor: float, data: st.DataObject
) -> None:
    by_index = torch.tensor(data.draw(st.lists(st.floats(0, 1e6, width=32), min_size=SIZE, max_size=SIZE)))
    planned = torch.tensor(indices)
    sizes = None
    if cuts is not None:
        edges = [0, *sorted(min(cut, len(indices)) for cut in cuts), len(indices)]
        sizes = tuple(b - a for a, b in pairwise(edges))
    plan = Plan(planned, by_index[planned] if weighted else None, sizes, factor)
    selector = setup(Record(Planned(plan), tmp_path, overwrite=True), epochs=1)
    selector.plan(0, torch.arange(SIZE))
    selector.end_epoch(0)
    found = setup(Replay(path=tmp_path), epochs=1).plan(0, torch.arange(SIZE))
    assert found.indices.tolist() == indices
    assert weights_of(found) == weights_of(plan)
    assert found.batch_sizes == (None if sizes is None else tuple(size for size in sizes if size))
    assert found.lr_factor == factor


# Settings.


def test_what_record_and_replay_take() -> None:
    with pytest.raises(TypeError, match="Record wraps a Selector such as InfoBatch"):
        Record("adonis", "folder")
    with pytest.raises(TypeError, match="path=7 must be a folder, as str or Path, not int"):
        Record(InfoBatch(), 7)
    with pytest.raises(TypeError, match="path=None must be a folder"):
        Replay(path=None)
    with pytest.raises(TypeError, match="wrap_around=1 must be True or False"):
        Replay(path="folder", wrap_around=1)


def test_settings_that_json_does_not_know_are_named_by_their_type(tmp_path: Path) -> None:
    class Odd(Adonis):
        def settings(self) -> dict[str, Any]:
            return {"function": print, "shape": (1, 2)}

    for _ in range(2):
        wrapped(Record(Odd(), tmp_path, overwrite=True), epochs=1).plan  # noqa: B018
    loader = wrapped(Record(Odd(), tmp_path), epochs=1)
    run_epoch(loader)
    assert Replay(path=tmp_path).settings()["settings"] == {"function": "builtin_function_or_method", "shape": [1, 2]}


def test_pyarrow_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r'pip install "leantrain\[train\]"'):
        Record(InfoBatch(), "folder")
