"""A kind of file that is read from disk, and one attempt to read it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutate


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        seeds: contents that are read without an error.
        read: writes the content in the file's place, in a folder of its own, and reads it.
        edits: changes that keep the format; see ``mutate``.
        errors: what the readers document.
        name: that each error's text has to hold: the file's.
        weight: its share of the executions; slow readers get less.
    """

    seeds: Sequence[bytes]
    read: Callable[[bytes], object]
    edits: tuple[mutate.Edit, ...] = ()
    errors: tuple[type[Exception], ...] = (ValueError,)
    name: str = ""
    weight: float = 1.0


def attempt(target: Target, content: bytes) -> str:
    """Read ``content``: "" or the text of the documented error. AssertionError if that names no file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(content)
    except target.errors as error:
        text = str(error)
        if target.name not in text or not text:
            raise AssertionError(f"the error does not name {target.name}: {text}") from error
        return text
    return ""


def file(path: Path, read: Callable[[], object], *edits: mutate.Edit, **options: Any) -> Target:
    """A target of the file that lies at ``path``; by default errors have to name it."""
    return Target([path.read_bytes()], writing(path, read), edits, **{"name": path.name} | options)


def writing(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    def write_and_read(content: bytes) -> object:
        path.write_bytes(content)
        return read()

    return write_and_read
