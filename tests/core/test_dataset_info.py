"""Labels that a data set is given or holds itself: by place, by name, and through what torch puts around it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, random_split

from leantrain import RPC, RPD, wrap
from leantrain.core import dataset_info

NUMBERS = [3, 0, 3, 1, 0, 1, 3, 0]
NAMES = ["dog", "ant", "dog", "bee", "ant", "bee", "dog", "ant"]
PLACES = [2, 0, 2, 1, 0, 1, 2, 0]


class Series:
    """As in pandas: [] goes by the index, the array by place."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __getitem__(self, name: int) -> Any:
        return self.values[len(self.values) - 1 - name]

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.values.astype(dtype or self.values.dtype)


class Column(list):
    """A column of a table that is read when asked for: a sequence, and no array."""


class Data(Dataset):
    def __init__(self, size: int = 8, **columns: Any) -> None:
        self.size = size
        vars(self).update(columns)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


def of(dataset: Any) -> list[int] | None:
    found = dataset_info.labels(dataset, None, len(dataset))
    assert found is None or found.dtype == torch.int64
    return None if found is None else found.tolist()


KINDS = {
    "list": NUMBERS,
    "tuple": tuple(NUMBERS),
    "tensor": torch.tensor(NUMBERS),
    "uint8 tensor": torch.tensor(NUMBERS, dtype=torch.uint8),
    "array": np.array(NUMBERS, dtype=np.int32),
    "uint8 array": np.array(NUMBERS, dtype=np.uint8),
    "array of objects": np.array(NUMBERS, dtype=object),
    "list of tensors": [torch.tensor(number) for number in NUMBERS],
    "list of numpy numbers": [np.int64(number) for number in NUMBERS],
    "series": Series(NUMBERS),
    "series of objects": Series(np.array(NUMBERS, dtype=object)),
    "column": Column(NUMBERS),
}
NAMED = {
    "list": NAMES,
    "array": np.array(NAMES),
    "array of objects": np.array(NAMES, dtype=object),
    "bytes": [name.encode() for name in NAMES],
    "array of bytes": np.array([name.encode() for name in NAMES]),
    "series": Series(np.array(NAMES, dtype=object)),
    "column": Column(NAMES),
}
CASES = [pytest.param(value, NUMBERS, id=kind) for kind, value in KINDS.items()]
CASES += [pytest.param(value, PLACES, id=f"names, {kind}") for kind, value in NAMED.items()]


@pytest.mark.parametrize(("column", "expected"), CASES)
def test_labels_of_every_kind(column: Any, expected: list[int]) -> None:
    given = dataset_info.labels(Data(), column, 8)
    assert given is not None
    assert given.tolist() == expected
    assert of(Data(targets=column)) == expected
    assert of(Data(labels=column)) == expected


@pytest.mark.parametrize("labels", [[True, False] * 4, np.array([1, 0] * 4, dtype=bool)])
def test_truth_values(labels: Any) -> None:
    assert of(Data(targets=labels)) == [1, 0] * 4


@pytest.mark.parametrize(("column", "expected"), CASES)
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda places: np.array(places, dtype=np.uint8)])
def test_subsets_go_by_place(column: Any, expected: list[int], kind: Any) -> None:
    outer, inner = [3, 0, 2, 3], [7, 1, 0, 3]
    once = Subset(Data(targets=column), kind(inner))
    places = {label: place for place, label in enumerate(sorted({expected[i] for i in inner}))}
    known = (
        expected if expected is NUMBERS else {i: places[expected[i]] for i in inner}
    )  # among the names that are there
    assert of(once) == [known[i] for i in inner]
    if expected is NUMBERS:
        assert of(Subset(once, kind(outer))) == [expected[inner[i]] for i in outer]


def test_places_from_the_end() -> None:
    assert of(Subset(Data(targets=NUMBERS), [-1, -2, 0])) == [0, 3, 3]


def test_joined_sets_share_their_names() -> None:
    other = Data(4, targets=["cow", "dog", "cow", "dog"])
    assert of(ConcatDataset([Data(targets=NAMES), other])) == [3, 0, 3, 1, 0, 1, 3, 0, 2, 3, 2, 3]
    numbers = ConcatDataset([Data(targets=NUMBERS), Data(2, labels=torch.tensor([7, 7]))])
    assert of(numbers) == [*NUMBERS, 7, 7]
    assert of(Subset(numbers, [9, 0])) == [7, 3]
    assert of(ConcatDataset([Data(targets=NUMBERS), Data(2)])) is None
    assert of(ConcatDataset([Data(targets=NUMBERS), other])) is None  # numbers and names have nothing in common


def test_a_subset_may_hold_its_own() -> None:
    subset: Any = Subset(Data(targets=NUMBERS), [0, 1])
    subset.targets = [5, 6]
    assert of(subset) == [5, 6]


@pytest.mark.parametrize(
    "column",
    [
        ["cat", "dog"],  # the names of the classes
        [*NUMBERS, 1, 1],  # more than there are samples
        [[0, 1]] * 8,
        [{"boxes": 1}] * 8,
        torch.full((8,), 0.5),
        torch.zeros(8, 1),
        [None] * 8,
        [None, *NUMBERS[1:]],
        ["a text", *"bcdefgh"],
        ["cat", 1] * 4,
        {"cat": 0},
        [[0], [0, 1]] * 4,
    ],
    ids=str,
)
def test_what_is_no_label_of_each_sample_is_passed_over(column: Any) -> None:
    for data in (Data(targets=column), Data(labels=column)):
        assert of(data) is None
        assert of(Subset(data, range(4))) is None
        train, _ = random_split(data, [5, 3], generator=torch.Generator().manual_seed(0))
        assert len(wrap(DataLoader(train, batch_size=5), RPD(keep_ratio=1))) == 1


def test_the_second_column_counts_where_the_first_is_none() -> None:
    assert of(Data(targets=torch.rand(8), labels=NUMBERS)) == NUMBERS


@pytest.mark.parametrize("indices", [[0, 99], ["a", "b"], [0.5, 1.0], np.array([True] * 8)], ids=str)
def test_subsets_of_nothing(indices: Any) -> None:
    assert of(Subset(Data(targets=NUMBERS), indices)) is None


def test_a_data_set_without_length_behind_a_subset() -> None:
    class Endless(Dataset):
        targets = NUMBERS

        def __getitem__(self, index: int) -> int:
            return index

    assert of(Subset(Endless(), [2, 3])) == [3, 1]


@pytest.mark.parametrize(
    ("targets", "error", "text"),
    [
        ([*NUMBERS, 0], ValueError, r"shape \(9,\).*each of the 8 samples"),
        (["cat"] * 7, ValueError, r"shape \(7,\)"),
        (torch.rand(8), ValueError, r"type torch\.float32"),
        ([0.5] * 8, ValueError, r"type float64"),
        ([*NAMES[:7], None], TypeError, "one of them is None, a NoneType, and others are text"),
        ([*NAMES[:7], 3], TypeError, "one of them is 3"),
        ([2**70] * 8, TypeError, "as integers or as names"),
        ([[0], [0, 1]] * 4, TypeError, "as integers or as names"),
    ],
)
def test_given_labels_that_are_none_are_refused(targets: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        dataset_info.labels(Data(), targets, 8)


def test_names_are_kept_by_class() -> None:
    """RPC with a tenth of each class: one sample of each, whatever the index of the series says."""
    data = Data(20, targets=Series(np.array(["common"] * 15 + ["rare"] * 5, dtype=object)))
    for seed in range(5):
        kept = wrap(DataLoader(Subset(data, [*range(20)]), batch_size=2), RPC(keep_ratio=0.1), seed=seed).plan.indices
        assert int((kept >= 15).sum()) == 1


def test_fingerprints_stay_what_they_were() -> None:
    """Of sets whose labels were known all along; recordings name their data set by it."""
    known = {
        "402708a5": Data(targets=NUMBERS),
        "adfb6f6d": Data(targets=[True, False] * 4),
        "6f66b4f4": Subset(Data(targets=NUMBERS), [7, 1, 0]),
        "40d487cf": Data(),
        "03004aef": ConcatDataset([Data(targets=NUMBERS), Data(targets=NUMBERS)]),
    }
    assert {dataset_info.fingerprint(data)[:8]: data for data in known.values()} == known
    assert dataset_info.fingerprint(Data(targets=NAMES))[:8] == "40d487cf"
    assert dataset_info.fingerprint(Data(targets=NUMBERS)) != dataset_info.fingerprint(Data(targets=NUMBERS[::-1]))
    assert dataset_info.fingerprint(Data(fingerprint="mine")) == "mine"
