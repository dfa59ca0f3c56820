"""Read the files of a results folder with errors that name the file."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}). It looks cut off or damaged. {again}.") from None


def read_table(path: Path, columns: list[str], method: str | None = None) -> pa.Table:
    """`columns` of a Parquet file; with `method`, only the rows of that method (read without the rest).

    Raises FileNotFoundError where the file is missing, ValueError where it is cut off or lacks a column.
    """
    again = AGAIN.format(folder=path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. {again}.")
    try:
        missing = [name for name in columns if name not in pq.read_schema(path).names]
        if missing:
            raise ValueError(f"{path} lacks the columns {missing}; expected {columns}. {again}.")
        rows = None if method is None else [("method", "=", method)]
        return pq.read_table(path, columns=columns, filters=rows)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not complete Parquet ({reason}). It looks cut off or damaged. {again}.") from None
