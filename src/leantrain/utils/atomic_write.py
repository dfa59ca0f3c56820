"""Writing files whole or not at all, beside their place first, then moved there; and one process a folder."""

import contextlib
import errno
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LOCK = ".lock"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then move it there. A failure leaves an earlier file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(partial)
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except Exception as error:
        if (number := code(error)) is None:
            raise
        reason = os.strerror(number) if getattr(error, "errno", number) else str(error)
        raise OSError(number, f"{reason} while writing {path}. What was there before is whole") from error
    finally:
        partial.unlink(missing_ok=True)


def code(error: Exception) -> int | None:
    """The ``errno`` of what a library raised when it could not write; None when it raised that for something else."""
    found = re.search(r"(?:os error|code:|errno) (\d+)", str(error))  # safetensors puts it into the text of its own
    if isinstance(error, OSError):
        return error.errno or (int(found[1]) if found else errno.EIO)
    return int(found[1]) if found else None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_whole(path, lambda place: place.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all. ValueError for NaN and infinity, which JSON does not know."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Within, no other process may have ``folder``: ValueError, naming the one that has it.

    The lock is the kernel's and goes with the process, also when that is killed. Without ``fcntl`` nothing is locked.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; give a folder.")
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        place = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(place, 200).decode(errors="replace").strip() or "another process"
            os.close(place)
            raise ValueError(f"{folder} is in use by {owner}. Wait for it, or give another --out.") from None
        if path.exists() and os.fstat(place).st_ino == path.stat().st_ino:
            break
        os.close(place)  # its owner removed it between our opening and locking it
    try:
        os.ftruncate(place, 0)
        with contextlib.suppress(OSError):  # a full disk: who has it is not told, and yet it is locked
            os.write(place, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(place)
