"""Reading a data set of which some samples raise: what comes through of a batch, and which sample it was that raised.

K = samples of a batch that came through.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

REASON = 300  # characters kept of an error


class Read(NamedTuple):
    """A batch as the workers of a tolerant DataLoader give it.

    Attributes:
        positions: (K,) within the batch asked for, of the samples that came through, ascending.
        data: those samples, collated; None without any.
        failed: position of each of the others, and why.
    """

    positions: list[int]
    data: Any
    failed: list[tuple[int, str]]


class Tolerant:
    """The user's data set, as a DataLoader reads it batch by batch; a sample that raises does not end the batch.

    Other attributes are the data set's own, also to set: a ``worker_init_fn`` may open its files there.
    """

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "dataset", dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> Read:
        whole = getattr(self.dataset, "__getitems__", None)
        if whole is not None:
            try:
                return Read([*range(len(indices))], whole(indices), [])
            except MemoryError:  # not the sample's fault
                raise
            except Exception:
                pass  # one by one then
        read = Read([], [], [])
        for position, index in enumerate(indices):
            try:
                sample = self.dataset[index] if whole is None else _only(whole([index]))
            except MemoryError:
                raise
            except Exception as error:
                read.failed.append((position, _text(error)[:REASON]))
            else:
                read.positions.append(position)
                read.data.append(sample)
        return read

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)

    def __reduce__(self) -> Any:
        return Tolerant, (self.dataset,)


class Collate:
    """The user's ``collate_fn`` for what ``Tolerant`` gives: called with the samples that came through, if any did."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, read: Read) -> Read:
        return read._replace(data=self.collate(read.data) if read.positions else None)


def from_worker(error: Exception) -> bool:
    """Whether torch says that ``error`` was raised in a worker, which lives on."""
    return "in DataLoader worker process" in str(error)


def culprit(error: Exception, loader: DataLoader[Any], indices: list[int]) -> int | None:
    """The one of ``indices`` whose reading raises ``error``: found by reading them again, one by one.

    None where none does so, and where reading again is no good idea: a worker said nothing, or memory ran out.
    """
    given = _text(error)
    if isinstance(error, MemoryError) or (loader.num_workers and not from_worker(error)):
        return None
    with torch.random.fork_rng([]):
        for index in indices:
            try:
                loader.dataset[index]
            except Exception as again:
                # Another error says nothing: the worker may have opened files that this process has not.
                return index if _text(again) in given else None
    return None


def _only(samples: Any) -> Any:
    if not isinstance(samples, Sequence) or len(samples) != 1:
        raise TypeError(f"__getitems__([index]) gave no list of one sample but {type(samples).__name__}")
    return samples[0]


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
