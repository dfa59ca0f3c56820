"""Image data sets in Parquet, in the layout of Hugging Face ``datasets``.

An image column is a struct of ``bytes`` and ``path`` (or plain binary); labels are integers, named by the
``features`` in the schema's metadata, or strings, as a dictionary too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from leantrain.data import label_checks
from leantrain.data.datasets import ImageData
from leantrain.data.readers import shards
from leantrain.data.readers.encoded import Encoded, Unreadable, from_encoded
from leantrain.utils import untrusted_input
from leantrain.utils.optional_import import require_extra

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label", "labels", "target")
_TEST_NAMES = ("test", "validation", "val", "valid")
_MOST_CLASSES = 10**6  # of labels without names: a single label must not make a list as long as it is large
_Kind = Literal["numbers", "named numbers", "names"]
_BATCH = 1024  # rows read at once, fewer where they may be large


def read(folder: Path, limit: int | None, image_size: int | None, unreadable: Unreadable = "raise") -> ImageData:
    """Read FOLDER/train.parquet and FOLDER/test.parquet.

    Shards (train-00000-of-00004.parquet) and a folder ``data`` between are found, too.
    Without a test split, one called validation, val or valid is taken.

    Labels with names go by them: files may count their classes in another order, and the test split may lack some.
    Numbers without names are taken as they are.

    Raises:
        FileNotFoundError: a split has no file, or a shard is missing.
        ValueError: not a Parquet file, shards of several sets, a missing column, an empty image or label, a class that
            only the test split has, or as ``from_encoded``.
    """
    train_files, test_files = shards.find(folder, ("train",)), shards.find(folder, _TEST_NAMES)
    first = _table(train_files[0])
    label = _column(first, _LABEL_COLUMNS, train_files[0])
    train = [_labels(first, train_files[0], label), *(_labels(_table(path), path, label) for path in train_files[1:])]
    test = [_labels(_table(path), path, label) for path in test_files]
    classes, kind = _classes(train)
    learnt = _join(train, classes, kind)
    label_checks.check(learnt.targets, classes, learnt.where, training=True)  # before the test split is blamed
    name, tested = f"parquet:{folder.name}", _join(test, classes, kind)
    return from_encoded(name, learnt, tested, classes, limit=limit, image_size=image_size, unreadable=unreadable)


def _table(path: Path) -> Any:
    parquet = require_extra("pyarrow.parquet", "train")
    arrow = require_extra("pyarrow", "train")
    try:
        with parquet.ParquetFile(path) as file:
            return _read(file, path)
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error


def _read(file: Any, path: Path) -> Any:
    """The columns that may matter, in pieces: a few bytes can stand for the same image any number of times."""
    arrow = require_extra("pyarrow", "train")
    names = [name for name in file.schema_arrow.names if name in (*_IMAGE_COLUMNS, *_LABEL_COLUMNS)]
    if len(set(names)) < len(names):
        raise ValueError(f"it has several columns of one name ({', '.join(names)})")
    untrusted_input.check_table(path, file.metadata)
    largest = max([1, *untrusted_input.group_bytes(file.metadata)])  # bytes that one row may have
    pieces, unpacked = [], 0
    for piece in file.iter_batches(max(1, min(_BATCH, untrusted_input.TABLE // 2 // largest)), columns=names):
        unpacked += piece.nbytes
        untrusted_input.check_unpacked(path.stat().st_size, unpacked)
        pieces.append(piece)
    schema = arrow.schema([file.schema_arrow.field(name) for name in names], file.schema_arrow.metadata)
    table = arrow.Table.from_batches(pieces, schema) if names else arrow.table({})
    table.validate(full=True)  # text that is no UTF-8 shows here
    return table


def _column(table: Any, names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in table.column_names:
            return name
    parquet = require_extra("pyarrow.parquet", "train")
    have = ", ".join(parquet.read_schema(path).names)
    raise ValueError(f"{path} has no column {names[0]!r} (nor {', '.join(names[1:])}); its columns are: {have}.")


@dataclass(frozen=True)
class _Labelled:
    """One file: its images, and labels (n,) int64 that index ``names``, if it has any."""

    path: Path
    images: list[Path | bytes]
    labels: Tensor
    names: list[str] | None
    text: bool  # the names are the labels themselves, and come in no order


def _labels(table: Any, path: Path, label: str) -> _Labelled:
    image = _column(table, _IMAGE_COLUMNS, path)
    if label not in table.column_names:
        raise ValueError(f"{path} has no column {label!r}, which the training split has.")
    if not table.num_rows:  # its types and names say nothing
        return _Labelled(path, [], torch.empty(0, dtype=torch.int64), None, False)
    types, column = require_extra("pyarrow.types", "train"), table[label]
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    text = types.is_string(column.type) or types.is_large_string(column.type)
    if not (text or types.is_integer(column.type) or types.is_boolean(column.type) or types.is_null(column.type)):
        raise ValueError(f"{path}: {label!r} is {column.type}; labels have to be integers or strings.")
    values = column.to_pylist()
    if None in values:
        raise ValueError(f"{path}, row {values.index(None)}: {label!r} is null; drop such rows.")
    if text:
        names = sorted({*values})
        position = {name: place for place, name in enumerate(names)}
        values = [position[value] for value in values]
    else:
        names = _names(table, label)
    if values and not -(2**63) <= min(values) <= max(values) < 2**63:
        raise ValueError(f"{path}: label {max(values, key=abs)} is too large; labels count the classes from 0.")
    labels = torch.tensor(values, dtype=torch.int64)
    if names is not None:
        label_checks.check_range(labels, names, str(path))
    return _Labelled(path, _bytes(table[image], image, str(path)), labels, names, text)


def _names(table: Any, label: str) -> list[str] | None:
    """Names of the numbers, from the metadata; None where the file was written without ``datasets``."""
    try:
        features = untrusted_input.parse_json((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):  # or not a ClassLabel
        return None


def _classes(parts: list[_Labelled]) -> tuple[list[str], _Kind]:
    """The classes of the training split, and what its labels are.

    In the order of the first file whose numbers have names; those that only others have come after, sorted. Without
    any name, the numbers up to the largest.
    """
    filled = [part for part in parts if len(part.labels)]
    nameless = next((part for part in filled if part.names is None), None)
    lists = [part.names for part in filled if part.names is not None and not part.text]
    texts = {name for part in filled if part.text for name in part.names or ()}
    if nameless is not None and (texts or any(names != lists[0] for names in lists)):
        raise ValueError(
            f"{nameless.path} has labels that are numbers without names, and other files of the split have names of "
            "their own. Write all of them in the same way."
        )
    if not lists and not texts:
        largest = max([-1, *(int(part.labels.max()) for part in filled)])
        if largest >= _MOST_CLASSES:
            raise ValueError(f"{parts[0].path}: label {largest} is too large; labels count the classes from 0.")
        return [str(number) for number in range(largest + 1)], "numbers"
    first = lists[0] if lists else []
    others = {name for names in lists for name in names} | texts
    return [*first, *sorted(others - {*first})], "named numbers" if lists else "names"


def _join(parts: list[_Labelled], classes: list[str], kind: _Kind) -> Encoded:
    """One split of several files, with labels that index ``classes``."""
    placed = [_placed(part, classes, kind) for part in parts]
    where = str(parts[0].path) if len(parts) == 1 else f"{parts[0].path} and {len(parts) - 1} more"
    names = [f"{part.path}, row {row}" for part in parts for row in range(len(part.labels))]
    return Encoded([image for part in parts for image in part.images], names, torch.cat(placed), where)


def _placed(part: _Labelled, classes: list[str], kind: _Kind) -> Tensor:
    """(n,) int64, the labels of one file as places among ``classes``: by name, where both have names."""
    labels, names = part.labels, part.names
    if not len(labels):
        return labels
    if names is None and kind == "names":
        raise ValueError(
            f"{part.path} has labels that are numbers without names; those of the training split are names, such as "
            f"{classes[0]!r}. Write both in the same way."
        )
    if names is None or names == classes or (kind == "numbers" and not part.text):
        label_checks.check_range(labels, classes, str(part.path))
        return labels
    used = labels.unique().tolist()
    unknown = next((names[label] for label in used if names[label] not in classes), None)
    if unknown is not None:
        raise ValueError(f"{part.path}: label {unknown!r} does not occur in the training split.")
    if len({*names}) < len(names) or len({*classes}) < len(classes):
        raise ValueError(
            f"{part.path} and the training split list their classes in another order, and some have the same name. "
            "Give each class a name of its own."
        )
    place = {name: number for number, name in enumerate(classes)}
    return torch.tensor([place.get(name, -1) for name in names], dtype=torch.int64)[labels]


def _bytes(column: Any, name: str, where: str) -> list[Path | bytes]:
    types = require_extra("pyarrow.types", "train")
    if types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        compute = require_extra("pyarrow.compute", "train")
        column = compute.struct_field(column, "bytes")
    if not (types.is_binary(column.type) or types.is_large_binary(column.type)):
        raise ValueError(f"{where}: column {name!r} is {column.type}; expected struct<bytes: binary, ...> or binary.")
    images = column.to_pylist()
    if None in images:
        # The path may point outside the folder, and a file should not decide what else is read.
        raise ValueError(f"{where}, row {images.index(None)}: {name!r} holds no bytes; embed the images.")
    return images
