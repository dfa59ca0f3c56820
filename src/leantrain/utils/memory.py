"""Memory: what a method will hold, what the machine has left, and a refusal where the one exceeds the other."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

FLOAT = 4  # bytes of a number that is held
GIB = 2**30
T = TypeVar("T")
ROWS = "a smaller layer or extractor, fewer samples, or a method that needs none"


@dataclass(frozen=True, slots=True)
class Part:
    """One of the large things that a method will hold.

    Args:
        what: it is, in words.
        bytes: that it takes.
        instead: what takes less.
    """

    what: str
    bytes: int
    instead: str = ROWS

    def __str__(self) -> str:
        return f"{self.what} ({_size(self.bytes)})"


def rows(what: str, samples: int, width: int) -> Part:
    """``samples`` rows of ``width`` float32 numbers."""
    return Part(f"{what}, {samples:,} x {width:,} numbers", samples * width * FLOAT)


def describe(parts: Iterable[Part]) -> str:
    """``parts`` in words, their sum first."""
    parts = list(parts)
    return f"{_size(sum(part.bytes for part in parts))}: {'; '.join(map(str, parts))}"


def check_fits(parts: Iterable[Part], device: torch.device | str = "cpu") -> None:
    """ValueError when ``parts`` together take more than is available on ``device``. Goes on where that is unknown.

    The ranks that ``torchrun`` started on this machine hold the same each, in the same memory.

    It is a ValueError, not a MemoryError, since it is a setting that has to change; nothing was held yet.
    """
    parts = list(parts)
    if not parts:
        return
    cpu, ranks = torch.device(device).type == "cpu", os.environ.get("LOCAL_WORLD_SIZE", "")
    holders = max(1, int(ranks)) if cpu and ranks.isdecimal() else 1
    left, needed = available(device), sum(part.bytes for part in parts)
    if left is not None and needed * holders > left:
        largest = max(parts, key=lambda part: part.bytes)
        raise ValueError(
            f"The selection would hold {describe(parts)}{f', on each of {holders} ranks' if holders > 1 else ''}. "
            f"{_size(left)} of memory are available on {'this machine' if cpu else device}. What takes less: "
            f"{largest.instead}."
        )


def available(device: torch.device | str = "cpu") -> int | None:
    """Bytes that can still be had on ``device``; None where that is unknown.

    Of the CPU: what Linux calls available, or what the process's control groups leave of their limits, if that is less.
    Of a CUDA device: what is free, and what torch keeps without using it.
    """
    where = torch.device(device)
    if where.type == "cuda":
        unused = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return torch.cuda.mem_get_info(where)[0] + unused
    return available_to_process(Path("/")) if where.type == "cpu" else None


def available_to_process(root: Path) -> int | None:
    """The CPU's part of ``available``, of the system below ``root``."""
    known = [_of_system(root), *_of_groups(root)]
    return min((left for left in known if left is not None), default=None)


def _of_system(root: Path) -> int | None:
    for name, value in _lines(root / "proc/meminfo"):
        if name == "MemAvailable:":
            return int(value) * 1024
    return None


def _of_groups(root: Path) -> Iterable[int]:
    """What each group of the process has left, those above it included; pages that can be dropped count as left."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:  # version 2
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = Path(path.lstrip("/"))  # within a container it may not be there; its limits are then those of the top
        for folder in (group, *group.parents) if group.parts else (group,):
            limit, used = (_text(top / folder / name).strip() for name in names[:2])
            if limit.isdigit() and used.isdigit():
                dropped = dict(_lines(top / folder / "memory.stat")).get(names[2], "0")
                yield max(0, int(limit) - int(used) + int(dropped))


def _lines(path: Path) -> list[tuple[str, str]]:
    """First and second word of each line."""
    return [(words[0], words[1]) for line in _text(path).splitlines() if len(words := line.split()) > 1]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or a file that is not ours to read
        return ""


def _size(count: int) -> str:
    if count < 2**20:
        return f"{count:,} bytes"
    return f"{count / GIB:,.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:,.2f} MiB"
