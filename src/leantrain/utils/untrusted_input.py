"""Limits for files that may come from anyone. No honest file reaches them; a hostile one costs no more than they allow.

What stays possible: a Parquet page whose header lies costs what one page can hold, 2 GB, whatever the limits here.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

DEPTH = 60  # levels of nesting: ten times what we write, a tenth of what Python's own recursion can print
TEXT = 100 * 2**20  # bytes of a JSON file
ROWS, ROWS_A_BYTE = 10**6, 20  # of a table: so many, or so many a byte of its file; honest counts have 0.8 a byte
TABLE, GROWTH = 2**29, 20  # bytes: so many unpacked, or so many times the file


def read(path: Path, most: int = TEXT) -> str:
    """The UTF-8 text of a file; otherwise as ``read_bytes``."""
    return read_bytes(path, most).decode("utf-8")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a file. ValueError above ``most`` bytes, and for what is no file: a pipe would never end."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    if path.stat().st_size > most:
        raise ValueError(f"it is larger than {most:,} bytes")
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """The content of a JSON file. ValueError when it is none, or nested deeper than anything can show."""
    return parse_json(read(path))


def parse_json(text: str | bytes) -> Any:
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEPTH} levels") from None
    walk(content, plain_items)
    return content


def walk(root: Any, children: Callable[[Any], Iterable[Any]], most: float = float("inf")) -> None:
    """Visit everything below ``root`` as often as it occurs. ValueError beyond ``DEPTH`` levels or ``most`` items."""
    level, depth, seen = [root], 0, 1
    while level:
        if depth > DEPTH:
            raise ValueError(f"it is nested deeper than {DEPTH} levels")
        below = []
        for item in level:
            below += children(item)
            if seen + len(below) > most:
                raise ValueError(f"it holds more than {most:,} items when its aliases are written out")
        level, depth, seen = below, depth + 1, seen + len(below)


def plain_items(value: Any) -> Iterable[Any]:
    """What a plain value holds: keys and values, or items."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, str):
        value.encode("utf-8")  # half a surrogate pair, which JSON can spell, could not be written again: ValueError
    return value if isinstance(value, list | tuple) else ()


def check_table(path: Path, metadata: Any) -> None:
    """ValueError where a Parquet file claims far more content than its bytes could honestly hold."""
    size = path.stat().st_size
    if metadata.num_rows > max(ROWS, ROWS_A_BYTE * size):
        raise ValueError(f"it claims {metadata.num_rows:,} rows in {size:,} bytes")
    check_unpacked(size, sum(group_bytes(metadata)))


def group_bytes(metadata: Any) -> list[int]:
    """Unpacked bytes that each row group claims; not by column, for pyarrow aborts the process on damaged columns."""
    return [max(metadata.row_group(number).total_byte_size, 0) for number in range(metadata.num_row_groups)]


def check_unpacked(size: int, unpacked: int) -> None:
    """ValueError where a file of ``size`` bytes becomes ``unpacked`` bytes, far more than an honest one would."""
    if unpacked > max(TABLE, GROWTH * size):
        raise ValueError(f"its {size:,} bytes unpack to {unpacked:,} and more")
