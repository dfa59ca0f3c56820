"""Image data sets in Parquet, in the layout of Hugging Face ``datasets``.

An image column is a struct of ``bytes`` and ``path`` (or plain binary); labels are integers, named by the
``features`` in the schema's metadata, or strings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from leantrain.data.datasets import ImageData
from leantrain.data.readers.encoded import Encoded, from_encoded
from leantrain.utils import untrusted_input
from leantrain.utils.optional_import import require_extra

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label", "labels", "target")
_TEST_NAMES = ("test", "validation", "val", "valid")
_MOST_CLASSES = 10**6  # of labels without names: a single label must not make a list as long as it is large
_BATCH = 1024  # rows read at once, fewer where they may be large


def read(folder: Path, limit: int | None, image_size: int | None) -> ImageData:
    """Read FOLDER/train.parquet and FOLDER/test.parquet.

    Shards (train-00000-of-00004.parquet) and a folder ``data`` between are found, too.
    Without a test split, one called validation, val or valid is taken.

    Raises:
        FileNotFoundError: a split has no file.
        ValueError: not a Parquet file, a missing column, an empty image or label, or as ``from_encoded``.
    """
    train_files = _files(folder, ("train",))
    test_files = _files(folder, _TEST_NAMES)
    train, test = _table(train_files), _table(test_files)
    label = _column(train, _LABEL_COLUMNS, train_files[0])
    _check_labels(train, label, str(train_files[0]))
    classes = _class_names(train, label, str(train_files[0]))
    return from_encoded(
        f"parquet:{folder.name}",
        _split(train, train_files, label, classes),
        _split(test, test_files, label, classes),
        classes,
        limit=limit,
        image_size=image_size,
    )


def _files(folder: Path, splits: tuple[str, ...]) -> list[Path]:
    for split in splits:
        for place in (folder, folder / "data"):
            there = [*place.glob(f"{split}.parquet"), *place.glob(f"{split}-*.parquet")]
            found = sorted(path for path in there if path.is_file())  # a pipe would be waited for
            if found:
                return found
    have = ", ".join(sorted(path.name for path in folder.glob("*.parquet"))) or "no Parquet file"
    raise FileNotFoundError(f"{folder} lacks {splits[0]}.parquet (it holds {have}).")


def _table(files: list[Path]) -> Any:
    parquet = require_extra("pyarrow.parquet", "train")
    arrow = require_extra("pyarrow", "train")
    tables = []
    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                tables.append(_read(file, path))
        except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    try:
        return arrow.concat_tables(tables)
    except arrow.ArrowException as error:
        raise ValueError(f"{files[0]} and its other shards hold different columns: {error}") from error


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


def _check_labels(table: Any, label: str, where: str) -> None:
    types, kind = require_extra("pyarrow.types", "train"), table[label].type
    known = (types.is_integer, types.is_boolean, types.is_null, types.is_string, types.is_large_string)
    if not any(is_one(kind) for is_one in known):
        raise ValueError(f"{where}: {label!r} is {kind}; labels have to be integers or strings.")


def _class_names(table: Any, label: str, where: str) -> list[str]:
    """Names of the labels: from the metadata, the distinct strings, or the numbers up to the largest."""
    types = require_extra("pyarrow.types", "train")
    column = table[label]
    if types.is_string(column.type) or types.is_large_string(column.type):
        return sorted(name for name in column.unique().to_pylist() if name is not None)
    try:
        features = untrusted_input.parse_json((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):  # written without ``datasets``, or not a ClassLabel
        known = [value for value in column.unique().to_pylist() if value is not None]
        largest = int(max(known, default=-1))
        if largest >= _MOST_CLASSES:
            raise ValueError(f"{where}: label {largest} is too large; labels count the classes from 0.") from None
        return [str(i) for i in range(largest + 1)]


def _split(table: Any, files: list[Path], label: str, classes: list[str]) -> Encoded:
    where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    image = _column(table, _IMAGE_COLUMNS, files[0])
    if label not in table.column_names:
        raise ValueError(f"{where} has no column {label!r}, which the training split has.")
    _check_labels(table, label, where)
    values = table[label].to_pylist()
    if None in values:
        raise ValueError(f"{where}, row {values.index(None)}: {label!r} is null; drop such rows.")
    if values and isinstance(values[0], str):
        position = {name: i for i, name in enumerate(classes)}
        strange = next((v for v in values if v not in position), None)
        if strange is not None:
            raise ValueError(f"{where}: label {strange!r} does not occur in the training split.")
        values = [position[v] for v in values]
    if values and not -(2**63) <= min(values) <= max(values) < 2**63:
        raise ValueError(f"{where}: label {max(values, key=abs)} is too large; labels count the classes from 0.")
    names = [f"{where}, row {row}" for row in range(len(values))]
    return Encoded(_bytes(table[image], image, where), names, torch.tensor(values, dtype=torch.int64), where)


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
