"""The Parquet files that make up a split: one file, or the shards of one set, all of them and each once."""

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(?:-[0-9a-f]{16})?")  # of Hugging Face; older ones end in a hash
_NUMBERED = re.compile(r"(.+)-(\d+)")


class _Set(NamedTuple):
    """What the name of a file says of the set that it is part of: how many shards it has, where it does."""

    place: Path
    name: str
    shards: int | None


def find(folder: Path, splits: tuple[str, ...]) -> list[Path]:
    """The files of the first of ``splits`` that FOLDER or FOLDER/data holds, in the order of their names.

    Raises:
        FileNotFoundError: there is none, or a shard is missing.
        ValueError: they belong to several sets, so that the same images might count twice.
    """
    for split in splits:
        there = [*folder.glob(f"{split}*.parquet"), *folder.glob(f"data/{split}*.parquet")]
        named = (path for path in there if path.stem == split or path.stem.startswith(f"{split}-"))
        found = sorted(path for path in named if path.is_file())  # a pipe would be waited for
        if found:
            _check(folder, split, found)
            return found
    have = ", ".join(sorted(path.name for path in folder.glob("*.parquet"))) or "no Parquet file"
    raise FileNotFoundError(f"{folder} lacks {splits[0]}.parquet (it holds {have}).")


def _check(folder: Path, split: str, files: list[Path]) -> None:
    whole, _ = _parse(files[0], split)
    numbers: dict[int, Path] = {}
    for path in files:
        part, number = _parse(path, split)
        other = files[0] if part != whole else numbers.get(number) if number is not None else None
        if other is not None:
            raise ValueError(
                f"{folder} holds the {split} split twice, or parts of two: {other.relative_to(folder)} and "
                f"{path.relative_to(folder)} are not shards of one set. Keep the files of one set only."
            )
        if number is not None:
            numbers[number] = path
    if not numbers:
        return
    first = (
        min(numbers) if whole.shards is None else int(0 not in numbers and whole.shards in numbers)
    )  # some count from 1
    end = max(numbers) + 1 if whole.shards is None else first + whole.shards
    missing = [*islice((number for number in range(first, end) if number not in numbers), 4)]
    if missing:
        absent = end - first - len(numbers)
        names = ", ".join(f"-{number:05d}" for number in missing[:3]) + (", ..." if absent > 3 else "")
        of = "" if whole.shards is None else f" of {whole.shards}"
        raise FileNotFoundError(
            f"{folder} holds {len(numbers)} shards{of} of the {split} split, {files[0].name} first; missing are "
            f"{absent}: {whole.name}{names}. Download them; or, if they are left out on purpose, rename the others."
        )


def _parse(path: Path, split: str) -> tuple[_Set, int | None]:
    """The set and the number of a shard; of a file without number the latter is None."""
    if path.stem == split:
        return _Set(path.parent, split, 1), 0
    if shard := _SHARD.fullmatch(path.stem):
        return _Set(path.parent, shard[1], int(shard[3])), int(shard[2])
    if numbered := _NUMBERED.fullmatch(path.stem):
        return _Set(path.parent, numbered[1], None), int(numbered[2])
    return _Set(path.parent, split, None), None
