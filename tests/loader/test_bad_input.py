"""What cannot be wrapped or selected from is refused in one message that says what to do."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import cycle
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, Subset, TensorDataset

from leantrain import IDS, RPC, RPD, RS2, SB, Adonis, Full, InfoBatch, Plan, Selector, StaleSB, wrap
from toys import SIZE, Numbers, embedding, run_epoch, wrapped


class Endless(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        yield 1


class Unsized(Dataset):
    def __getitem__(self, index: int) -> int:
        return index


def plain(**options: Any) -> DataLoader:
    return DataLoader(Numbers(), **({"batch_size": 4} | options))


def score(batch: Any) -> Any:
    return torch.ones(len(batch[0]))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: wrap(DataLoader(Endless()), Full()), TypeError, "IterableDataset.*map-style data set.*__getitem__"),
        (lambda: wrap(wrap(plain(), Full()), RS2()), TypeError, r"wrapped already. Compose.*left \| right"),
        (lambda: wrap([1, 2], Full()), TypeError, "takes a torch DataLoader, not list"),
        (lambda: wrap(DataLoader([], batch_size=4), Full()), ValueError, "data set is empty"),
        (lambda: wrap(plain(batch_size=None), Full()), ValueError, "pass batch_size=... or batch_sampler="),
        (
            lambda: wrap(DataLoader(Unsized(), batch_size=4, sampler=[0]), Full()),
            TypeError,
            "data set with a length",
        ),
        (lambda: wrap(plain(in_order=False), Full()), ValueError, "in_order=True"),
        (lambda: wrap(plain(), RPD), TypeError, r"must be a Selector such as InfoBatch\(\), not type"),
        (lambda: wrap(plain(), 5), TypeError, "must be a Selector.*not int"),
        (lambda: wrap(plain(), "adonsi"), ValueError, "method.*'adonsi'.*adonis"),
        (lambda: wrap(plain(), Adonis()), ValueError, r"Adonis judges .*wrap\(loader, ..., score=leantrain\.scorer"),
        (lambda: wrap(plain(), RPD() | SB()), ValueError, "needs a scoring function"),
        (lambda: wrap(plain(), Adonis(), score=torch.ones(3)), TypeError, "score must be a function of a batch"),
        (lambda: wrap(plain(), InfoBatch()), ValueError, r"InfoBatch depends on the length .*epochs=90"),
        (lambda: wrap(plain(), Full(), epochs=0), ValueError, "epochs=0 must be a finite number above 0"),
        (lambda: wrap(plain(), Full(), epochs=-2), ValueError, "epochs=-2 must be"),
        (lambda: wrap(plain(), Full(), epochs="90"), TypeError, "epochs='90' must be a number"),
        (lambda: wrap(plain(), Full(), seed=-1), ValueError, "seed=-1 must be at least 0"),
        (lambda: wrap(plain(), Full(), seed=0.5), TypeError, "seed=0.5 must be a whole number"),
    ],
)  # fmt: skip
def test_wrap_refuses(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize(
    ("targets", "error", "text"),
    [
        ([0] * (SIZE - 1), ValueError, r"shape \(39,\).*one integer class label for each of the 40 samples"),
        (torch.zeros(SIZE, 2, dtype=torch.int64), ValueError, r"shape \(40, 2\)"),
        (torch.zeros(SIZE), ValueError, r"type torch\.float32; expected one integer class label"),
        ([None, *range(SIZE - 1)], TypeError, "one class label a sample, as integers or as names: one of them is None"),
        (["cat", 1] * (SIZE // 2), TypeError, "one class label a sample.*is 1, a int, and others are text"),
        (3, ValueError, r"shape \(\)"),
    ],
)
def test_labels_that_do_not_match(targets: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        wrap(plain(), RPC(), targets=targets)


def test_labels_are_found_through_subsets() -> None:
    data = Numbers()
    part = Subset(Subset(data, range(0, 40, 2)), [3, 1, 8, 5])
    loader = wrap(DataLoader(part, batch_size=2), RPC(keep_ratio=1))
    assert loader.selector.run.targets.tolist() == [data.targets[i] for i in (6, 2, 16, 10)]


def test_labels_given_win() -> None:
    loader = wrap(plain(), RPC(), targets=[7] * SIZE)
    assert loader.selector.run.targets.tolist() == [7] * SIZE


@pytest.mark.parametrize("targets", [[*"abcdef"], [[1, 2]] * 6, torch.rand(6), [{"boxes": 1}] * 6, [1, 2]])
def test_odd_labels_of_a_data_set_matter_only_to_methods_that_need_them(targets: Any) -> None:
    data = TensorDataset(torch.arange(6))
    data.targets = targets
    loader = wrap(DataLoader(data, batch_size=2), RPD(keep_ratio=1))
    assert sum(1 for _ in loader) == 3
    with pytest.raises(ValueError, match="no labels were found"):
        wrap(DataLoader(data, batch_size=2), RPC())


@pytest.mark.parametrize("name", ["targets", "labels"])
def test_labels_of_a_data_set(name: str) -> None:
    data = TensorDataset(torch.arange(6))
    setattr(data, name, torch.tensor([0, 0, 0, 1, 1, 5]))
    loader = wrap(DataLoader(data, batch_size=2), RPC(keep_ratio=0.1))
    assert len(loader.plan.indices) == 3


@pytest.mark.parametrize(
    ("order", "error", "text"),
    [
        ([0, 1, SIZE], ValueError, r"indices 0 to 40; the data set has 40 samples, 0 to 39"),
        ([3, -1], ValueError, "indices -1 to 3"),
        (["a", "b"], TypeError, "sampler of integer indices"),
        ([(0, 1), (2, 3)], TypeError, "sampler of integer indices"),
        ([0, 1.5, 2], TypeError, "sampler of integer indices"),
        ([0, "1", 2], TypeError, "sampler of integer indices"),
    ],
)
@pytest.mark.parametrize("kind", ["sampler", "batch_sampler"])
def test_samplers_that_yield_no_index(order: list[Any], error: type[Exception], text: str, kind: str) -> None:
    loader = wrapped(Full(), **{kind: order if kind == "sampler" else [order]})
    with pytest.raises(error, match=text):
        run_epoch(loader)


@pytest.mark.parametrize("order", [torch.arange(6), [torch.tensor(i) for i in range(6)], range(6)])
def test_samplers_of_tensors(order: Any) -> None:
    assert run_epoch(wrapped(Full(), sampler=order)) == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize(
    "selector",
    [RPD(keep_ratio=0.1), RS2(keep_ratio=0.1), IDS(features=embedding(), keep_ratio=0.01)],
    ids=["rpd", "rs2", "ids"],
)
def test_a_selection_smaller_than_a_batch(selector: Selector) -> None:
    loader = wrapped(selector, batch_size=30)
    with pytest.raises(ValueError, match=r"selects \d+ samples, fewer than one batch of 30.*smaller batch"):
        next(iter(loader))


class Wrong(Selector):
    def __init__(self, plan: Plan) -> None:
        self._answer = plan

    def plan(self, epoch: int, pool: Any) -> Plan:
        return self._answer


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (Plan(torch.arange(0)), "Wrong selects no sample for epoch 0"),
        (Plan(torch.arange(8), torch.ones(7)), r"Wrong plans 8 samples but \(7,\) weights"),
        (Plan(torch.arange(SIZE + 1)), "Wrong"),
        (Plan(torch.arange(8) - 4), "Wrong"),
    ],
    ids=["empty", "weights", "too large", "negative"],
)
def test_a_wrong_plan(plan: Plan, text: str) -> None:
    with pytest.raises((ValueError, IndexError), match=text):
        run_epoch(wrapped(Wrong(plan)))


def test_repeated_samples_cannot_follow_a_custom_sampler() -> None:
    loader = wrapped(Wrong(Plan(torch.tensor([1, 1, 2, 3]))), sampler=[*range(SIZE)])
    with pytest.raises(ValueError, match="Wrong draws samples repeatedly and cannot follow a custom sampler"):
        run_epoch(loader)


def test_repeated_samples_are_used_as_often_in_the_plans_order() -> None:
    plan = Plan(torch.tensor([5, 1, 5, 5, 0, 1]))
    assert run_epoch(wrapped(Wrong(plan), shuffle=True)) == [[5, 1, 5, 5], [0, 1]]


class Corrupt(Numbers):
    def __getitem__(self, index: int) -> tuple[int, int]:
        if index == 13:
            raise OSError("cannot identify image file '13.png'")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("selector", [Full, lambda: StaleSB(start_epoch=0)], ids=["full", "stale-sb"])
def test_a_sample_that_cannot_be_read_is_named(selector: Any, workers: int) -> None:
    loader = wrapped(selector(), Corrupt(), num_workers=workers)
    with pytest.raises(OSError, match=r"13\.png") as caught:
        run_epoch(loader)
    (note,) = caught.value.__notes__
    assert note.startswith("leantrain: sample 13 (index into the data set) cannot be read")


def test_an_error_of_the_sampler_names_no_samples() -> None:
    class Failing(Numbers):
        def __iter__(self) -> Iterator[int]:
            yield 3
            raise LookupError("the sampler fails")

    with pytest.raises(LookupError) as caught:
        run_epoch(wrapped(Full(), sampler=Failing()))
    assert not getattr(caught.value, "__notes__", [])


class EndlessSampler(Sampler):
    def __iter__(self) -> Iterator[int]:
        return cycle(range(SIZE))


def test_an_endless_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"EndlessSampler yields more than 4000 times.*needs one that ends"):
        next(iter(wrap(DataLoader(Numbers(), batch_size=4, sampler=EndlessSampler()), Full())))


class Prefetcher(DataLoader):
    def __iter__(self) -> Any:
        return super().__iter__()


def test_a_loader_that_iterates_in_its_own_way_is_refused() -> None:
    with pytest.raises(TypeError, match="Prefetcher changes how a DataLoader iterates"):
        wrap(Prefetcher(Numbers(), batch_size=4), Full())


def test_a_loop_without_reduce_is_told_at_its_second_batch() -> None:
    batches = iter(wrap(DataLoader(Numbers(), batch_size=8), InfoBatch(), epochs=4))
    next(batches)
    with pytest.raises(RuntimeError, match=r"InfoBatch needs the losses of each batch.*loader.reduce\("):
        next(batches)


def test_a_plan_shorter_than_a_batch_stops_no_training_that_is_under_way() -> None:
    loader = wrap(DataLoader(Numbers(), batch_size=SIZE), InfoBatch(), epochs=4)
    for epoch in range(2):
        expected = pytest.warns(UserWarning, match="fewer than one batch of 40") if epoch else nullcontext()
        with expected:
            for _ in loader:
                loader.reduce(torch.arange(float(len(loader.indices))))
    assert 0 < len(loader.indices) < SIZE
