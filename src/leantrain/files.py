"""Writing files whole or not at all, beside their place first, then moved there; and one process a folder."""

import contextlib
import json
import os
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
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{reason} while writing {path}. What was there before is whole") from error
    finally:
        partial.unlink(missing_ok=True)


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
        os.write(place, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(place)
