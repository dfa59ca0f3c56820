"""Read the files of a results folder with errors that name the file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leantrain.utils import untrusted_input

TEXTS = ("method", "control_for")  # columns that are names; all others are numbers
LONGEST = 1000  # bytes of a name
AGAIN = "Run `leantrain compare --out {folder}` again"


def read_json(path: Path) -> Any:
    """The parsed file. Raises FileNotFoundError or ValueError with the path and what to do."""
    again = AGAIN.format(folder=path.parent)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. A report needs the folder that `leantrain compare --out DIR` wrote; "
            "give that DIR, or run compare first."
        )
    try:
        return untrusted_input.read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not complete JSON ({error}). It looks cut off or damaged. {again}.") from None


def read_table(path: Path, columns: list[str], method: str | None = None, optional: tuple[str, ...] = ()) -> pa.Table:
    """`columns` of a Parquet file, and of `optional` those that it has.

    With `method`, only the rows of that method (read without the rest).

    Raises FileNotFoundError where the file is missing, ValueError where it is cut off or lacks a column.
    """
    again = AGAIN.format(folder=path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. {again}.")
    try:
        # Names stay coded: written out, one long name and a few bytes of run lengths could fill the memory.
        metadata = pq.read_metadata(path)
        coded = [name for name in TEXTS if name in _leaves(metadata)]
        with pq.ParquetFile(path, read_dictionary=coded, metadata=metadata) as file:
            columns = [*columns, *(name for name in optional if name in file.schema_arrow.names)]
            wanted = columns if method is None else [*columns, "method"]
            strange = _strange(file.schema_arrow, wanted)
            if not strange:
                untrusted_input.check_table(path, metadata)
                batches = file.iter_batches(row_groups=_groups(file, method), columns=wanted)
                schema = pa.schema([file.schema_arrow.field(name) for name in columns])
                return pa.Table.from_batches([_named(batch, method, columns) for batch in batches], schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not complete Parquet ({reason}). It looks cut off or damaged. {again}.") from None
    raise ValueError(f"{path} {strange}. {again}.")


def _strange(schema: pa.Schema, wanted: list[str]) -> str:
    """What is wrong with the columns; nothing but names and numbers is read."""
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        return f"lacks the columns {missing}; expected {wanted}"
    for name in wanted:
        if schema.names.count(name) > 1:
            return f"has the column {name!r} more than once"
        kind = schema.field(name).type
        coded = pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not pa.types.is_null(kind) and not (coded if name in TEXTS else number):
            return f"has {kind} in the column {name!r}; expected {'names' if name in TEXTS else 'numbers'}"
    return ""


def _leaves(metadata: pq.FileMetaData) -> list[str]:
    return [metadata.schema.column(place).path for place in range(len(metadata.schema))]


def _groups(file: pq.ParquetFile, method: str | None) -> list[int]:
    """The row groups that hold ``method``. By their names, not their statistics: pyarrow aborts on damaged ones."""
    every = range(file.metadata.num_row_groups)
    if method is None:
        return list(every)
    return [
        group
        for group in every
        if any(method in _names(batch, "method") for batch in file.iter_batches(row_groups=[group], columns=["method"]))
    ]


def _names(batch: pa.RecordBatch, column: str) -> list[str]:
    """The different names in a column. ValueError where one is too long, or no UTF-8."""
    codes = batch[column]
    if pa.types.is_null(codes.type):
        return []
    longest = max(map(len, codes.dictionary.cast(pa.binary()).to_pylist()), default=0)
    if longest > LONGEST:
        raise ValueError(f"{column!r} holds a name of {longest:,} bytes")
    return codes.dictionary.to_pylist()


def _named(batch: pa.RecordBatch, method: str | None, columns: list[str]) -> pa.RecordBatch:
    """``columns`` of the rows of ``method``, or of all."""
    names = {column: _names(batch, column) for column in TEXTS if column in batch.schema.names}
    if method is not None:
        if not names["method"]:
            return batch.select(columns).slice(0, 0)
        code = names["method"].index(method) if method in names["method"] else -1
        batch = batch.filter(pa.array(batch["method"].indices.fill_null(-2).to_numpy() == code))
    return batch.select(columns)
