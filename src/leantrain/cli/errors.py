"""How an error ends: bad input as one line and exit code 2, a failed run as one and 1, a bug with its traceback."""

import dis
import errno
import os
import re
import shutil
import traceback
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from leantrain.loader.unreadable_samples import DIED, worker_died
from leantrain.train.fabric import under_torchrun

HOME = f"{Path(__file__).parents[1]}{os.sep}"  # where leantrain lies
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO}  # full or failing: no fault of the input
FAILED = (FloatingPointError, MemoryError, torch.OutOfMemoryError)


def end(error: Exception, *, traced: bool) -> int:
    """Say ``error`` on stderr and give the exit code. ``traced``: with the traceback, also where the input is bad."""
    said, code = _verdict(error)
    if traced or code is None:
        traceback.print_exception(error)
    if code is None:
        others = ", unless another rank ended before" if under_torchrun() else ""
        said = (
            f"{type(error).__name__}: {said}\nThis is a bug of leantrain and no fault of your input{others}. Please "
            "report it with the lines above, the command and what `leantrain --version` says."
        )
    return say(said, 1 if code is None else code)


def say(message: str, code: int) -> int:
    """Print ``message`` on stderr and give ``code``."""
    if message:  # else the help was shown already
        width = shutil.get_terminal_size().columns
        Console(stderr=True, width=max(width, 80)).print(
            f"[red]leantrain:[/] {escape(message)}", highlight=False, soft_wrap=True
        )
    return code


def _verdict(error: Exception) -> tuple[str, int | None]:
    """What is said of ``error``, and the exit code: 2 for bad input, 1 for a run that failed, None for a bug."""
    if type(error).__module__.startswith(("click", "typer")):  # a flag it does not know, a missing one
        return getattr(error, "format_message", error.__str__)(), 2
    in_worker = re.match(r"Caught \w+ in DataLoader worker process", str(error))  # and then the worker's traceback
    text = str(error).rstrip()
    said = " ".join([text.splitlines()[-1] if in_worker else text, *getattr(error, "__notes__", [])])
    if worker_died(error):
        return said if DIED in said else f"{said} {DIED}", 1
    if isinstance(error, FAILED) or getattr(error, "errno", None) in DISK:
        return said, 1
    environment = isinstance(error, OSError) or (
        isinstance(error, ImportError) and not (error.name or "").startswith("leantrain")
    )
    bad = environment or (_said_in_worker(text) if in_worker else refused(error))
    return said, 2 if bad else None


def refused(error: Exception) -> bool:
    """Whether ``error`` comes from a check of input: one of pydantic's, or a ``raise`` statement in leantrain.

    What Python, torch or another library raises in our code met it unprepared, and is a bug.
    """
    if not isinstance(error, ValueError | TypeError | ImportError):
        return False
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    if step is None or type(error).__module__.startswith("pydantic"):
        return True
    code = step.tb_frame.f_code
    return code.co_filename.startswith(HOME) and dis.opname[code.co_code[step.tb_lasti]] == "RAISE_VARARGS"


def _said_in_worker(text: str) -> bool:
    """``refused`` of an error in a worker: of that there is the traceback's text, with the lines of the source."""
    *_, (file, line) = re.findall(r'^  File "(.+)", line \d+, in .+\n +(.*)$', text, re.MULTILINE)
    return file.startswith(HOME) and line.startswith("raise ")
