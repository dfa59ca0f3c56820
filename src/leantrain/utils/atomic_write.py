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

from leantrain.utils.optional_import import require_extra

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
    told = re.search(r"(?:os error|code:|errno) (\d+)", str(error))  # safetensors puts it into the text of its own
    if isinstance(error, OSError):
        return error.errno or (int(told[1]) if told else errno.EIO)
    return int(told[1]) if told else None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_whole(path, lambda place: place.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all. ValueError for NaN and infinity, which JSON does not know."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Within, no other process may have ``folder``: ValueError, naming the one that has it.

    The lock is the kernel's and goes with the process, also when that is killed.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; give a folder.")
    filelock = require_extra("filelock", "train")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)  # a soft lock would outlive a killed process
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"{folder} is in use by {_owner(path)}. Wait for it, or give another --out.") from None
    try:
        with contextlib.suppress(OSError):  # a full disk: who has it is not told, and yet it is locked
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file, but filelock does there, once it is closed
            path.unlink()  # still locked: who opened it meanwhile sees that it is gone, and makes another
        lock.release()


def _owner(lock: Path) -> str:
    with contextlib.suppress(OSError):
        return lock.read_text(errors="replace")[:200].strip() or "another process"
    return "another process"
