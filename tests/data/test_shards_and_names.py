"""Which Parquet files make up a split, and whose class a label names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_encoded_images import png

from leantrain.data import load

PETS = ["cat", "dog", "emu"]


def write(path: Path, labels: Any, names: list[str] | None = None, seed: int = 0) -> None:
    table = pa.table({"image": [png(seed + row)[1] for row in range(len(labels))], "label": labels})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    """Writes files by name, each with two rows, and reads the folder."""

    def made(*files: str) -> Any:
        for number, file in enumerate((*files, "test.parquet")):
            write(tmp_path / file, [0, 1], seed=10 * number)
        return load(f"parquet:{tmp_path}")

    return made


@pytest.mark.parametrize(
    "files",
    [
        ["train.parquet"],
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
        ["train-00001-of-00002.parquet", "train-00002-of-00002.parquet"],
        ["train-00000-of-00002-0123456789abcdef.parquet", "train-00001-of-00002-fedcba9876543210.parquet"],
        ["train-0.parquet", "train-1.parquet", "train-2.parquet"],
        ["train-a.parquet", "train-b.parquet"],
        ["train-full-00000-of-00001.parquet"],
    ],
    ids=str,
)
def test_whole_sets_are_read(files: list[str], make: Any) -> None:
    assert len(make(*files).train) == 2 * len(files)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"],
            r"2 shards of 3.*missing are 1: train-00001\.",
        ),
        (["train-00000-of-00009.parquet"], r"missing are 8: train-00001, -00002, -00003, \.\.\.\. Download"),
        (["train-00001-of-00003.parquet", "train-00003-of-00003.parquet"], "missing are 1: train-00002"),
        (["train-00001-of-00002.parquet"], "missing are 1: train-00000"),
        (["train-00000-of-00002-0123456789abcdef.parquet"], "missing are 1: train-00001"),
        (["train-0.parquet", "train-2.parquet"], r"holds 2 shards of the train split.*missing are 1: train-00001"),
        (["train-00000-of-99999999999.parquet"], "missing are 99999999998"),
    ],
    ids=str,
)
def test_missing_shards_are_named(files: list[str], text: str, make: Any) -> None:
    with pytest.raises(FileNotFoundError, match=text):
        make(*files)


@pytest.mark.parametrize(
    "files",
    [
        ["train.parquet", "train-00000-of-00001.parquet"],
        ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        ["train-00000-of-00001-0123456789abcdef.parquet", "train-00000-of-00001-fedcba9876543210.parquet"],
        ["data/train.parquet", "train.parquet"],
        ["train.parquet", "train-old.parquet"],
        ["train-00000-of-00001.parquet", "train-00000-of-00001 (1).parquet"],
        ["train-00000-of-00001.parquet", "train-old-00000-of-00001.parquet"],
    ],
    ids=str,
)
def test_two_sets_in_one_folder_are_refused(files: list[str], make: Any) -> None:
    with pytest.raises(
        ValueError, match=r"holds the train split twice, or parts of two: .*\.parquet and .*\.parquet"
    ) as caught:
        make(*files)
    assert all(file in str(caught.value) for file in files[:1])


def read(folder: Path, train: list[tuple[Any, Any]], test: tuple[Any, Any]) -> tuple[list[str], list[str], Any]:
    """The classes of the samples by name, training and test, from files of (labels, names)."""
    for number, (labels, names) in enumerate(train):
        write(folder / f"train-{number}-of-{len(train)}.parquet", labels, names, seed=10 * number)
    write(folder / "test.parquet", *test, seed=90)
    data = load(f"parquet:{folder}")
    return *([data.classes[i] for i in part.tolist()] for part in (data.targets, data.test_targets)), data.classes


DICTIONARY = pa.array(["dog", "cat"]).dictionary_encode()


@pytest.mark.parametrize(
    ("train", "test", "named", "tested", "classes"),
    [
        # one file of each, in another order, and one that lacks a class
        ([([0, 1, 2], PETS)], ([0, 1, 2], PETS[::-1]), PETS, PETS[::-1], PETS),
        ([([0, 1, 2], PETS)], ([0, 1], ["emu", "dog"]), PETS, ["emu", "dog"], PETS),
        ([([0, 1], PETS)], ([0, 1], ["dog", "cow"]), None, "label 'cow' does not occur in the training split", None),
        ([([0, 1], PETS)], ([0, 0], ["dog", "cow"]), PETS[:2], ["dog", "dog"], PETS),
        # shards
        ([([0, 1], PETS), ([0, 1], ["emu", "dog"])], ([0], PETS), ["cat", "dog", "emu", "dog"], ["cat"], PETS),
        (
            [([0, 1], ["cat", "dog"]), ([0, 1], ["ant", "dog"])],
            ([2], ["x", "y", "ant"]),
            None,
            ["ant"],
            ["cat", "dog", "ant"],
        ),
        ([([0, 1], ["cat", "dog"]), ([], ["x"])], ([1], ["cat", "dog"]), ["cat", "dog"], ["dog"], ["cat", "dog"]),
        ([(pa.array([], pa.int64()), ["x"]), ([0, 1], PETS)], ([1], PETS), PETS[:2], ["dog"], PETS),
        # text, alone and beside numbers with names
        ([(["dog", "cat"], None), (["emu"], None)], (["emu"], None), ["dog", "cat", "emu"], ["emu"], PETS),
        ([(["dog", "cat"], None)], ([0, 1], ["dog", "cat"]), ["dog", "cat"], ["dog", "cat"], ["cat", "dog"]),
        ([([0, 1], ["dog", "cat"])], (["cat", "dog"], None), ["dog", "cat"], ["cat", "dog"], ["dog", "cat"]),
        (
            [([0, 1], ["dog", "cat"]), (["ant", "cat"], None)],
            (["ant"], None),
            ["dog", "cat", "ant", "cat"],
            ["ant"],
            None,
        ),
        ([(DICTIONARY, None)], (pa.array(["dog"]).dictionary_encode(), None), ["dog", "cat"], ["dog"], ["cat", "dog"]),
        (
            [(["dog", "cat"], None)],
            ([0, 1], None),
            None,
            "numbers without names; those of the training split are names",
            None,
        ),
        # numbers without names
        ([([0, 1, 2], None)], ([2, 0], None), ["0", "1", "2"], ["2", "0"], ["0", "1", "2"]),
        ([([0, 1], PETS)], ([2, 0], None), PETS[:2], ["emu", "cat"], PETS),
        ([([0, 1], None)], ([1, 0], ["cat", "dog"]), ["0", "1"], ["1", "0"], ["0", "1"]),
        ([([0, 1], PETS), ([2], None)], ([1], PETS), PETS, ["dog"], PETS),
        ([([0, 1], PETS), ([1], PETS[::-1]), ([2], None)], ([1], PETS), None, "numbers without names", None),
        ([([0, 1], None), (["cat"], None)], ([1], None), None, "numbers without names", None),
        ([([True, False], None)], ([True], None), ["1", "0"], ["1"], ["0", "1"]),
        ([(pa.array([1, 0], pa.uint8()), PETS)], (pa.array([2], pa.int32()), PETS), ["dog", "cat"], ["emu"], PETS),
        # out of range in its own file, though not among all classes
        ([([0, 1], ["cat", "dog"]), ([2], ["emu", "dog"])], ([0], PETS), None, "row 0: label 2 is outside 0..1", None),
        ([([0, 1], PETS)], ([-1], PETS[::-1]), None, "test.parquet, row 0: label -1 is outside 0..2", None),
        # two classes of one name: fine in one order, not to be told apart in another
        ([([0, 2], ["crane", "cat", "crane"])], ([2], ["crane", "cat", "crane"]), ["crane"] * 2, ["crane"], None),
        (
            [([0, 2], ["crane", "cat", "crane"])],
            ([2], ["cat", "crane", "crane"]),
            None,
            "some have the same name",
            None,
        ),
    ],
)
def test_labels_go_by_name(tmp_path: Path, train: Any, test: Any, named: Any, tested: Any, classes: Any) -> None:
    if isinstance(tested, str):
        with pytest.raises(ValueError, match=tested):
            read(tmp_path, train, test)
        return
    found = read(tmp_path, train, test)
    assert named is None or found[0] == named
    assert tested is None or found[1] == tested
    assert classes is None or [*found[2]] == classes
