"""A ``collate_fn`` of the user's, watched at first: losses go to other samples where it changes their order or number.

B = samples of a batch.
"""

import copy
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

WATCHED = 8  # batches of a process, at most: none may tell the order, where samples are alike or change by chance


class InOrder:
    """The ``collate_fn`` itself, but for the first batch of each process that tells the order: backwards too.

    Random streams stand afterwards where they stood, and the batch is the first call's. What depends on chance or on
    its neighbours (mixup, padding) cannot be judged so and passes.

    Args:
        collate: the user's.

    Raises:
        ValueError: the rows come in an order that is not that of the samples.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate
        self._watches = WATCHED

    def __call__(self, samples: list[Any]) -> Any:
        if not self._watches or len(samples) < 2:
            return self.collate(samples)
        self._watches -= 1
        with _streams_restored():
            backwards = self._backwards(samples)
        batch = self.collate(samples)
        judged = [] if backwards is None else _reordered(batch, backwards[0], len(samples))
        self._watches = 0 if judged else self._watches
        if judged and all(judged):
            name = getattr(self.collate, "__name__", type(self.collate).__name__)
            raise ValueError(
                f"The collate_fn {name} gives samples back in another order than it was given them (sorted by length, "
                "say), so losses would be taken for those of other samples. Keep the order, and sort within the model: "
                "pack_padded_sequence(..., enforce_sorted=False)."
            )
        return batch

    def _backwards(self, samples: list[Any]) -> tuple[Any] | None:
        try:
            return (self.collate(copy.deepcopy(samples)[::-1]),)
        except Exception:  # samples that cannot be copied; what is wrong with them shows in the real call
            return None


class _streams_restored:
    """Puts back the random streams of torch (CPU), Python and numpy on leaving."""

    def __enter__(self) -> None:
        self.torch, self.python = torch.get_rng_state(), random.getstate()
        self.numpy = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self.torch)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


def _reordered(batch: Any, backwards: Any, size: int) -> list[bool]:
    """Of each column that tells the order, whether ``backwards`` has its rows in another one than the reverse."""
    judged = []
    for ours, theirs in zip(_columns(batch, size), _columns(backwards, size), strict=False):
        if Counter(ours) == Counter(theirs) and ours != ours[::-1]:  # labels 0 1 1 0 say nothing of it
            judged.append(ours != theirs[::-1])
    return judged


def _columns(batch: Any, size: int) -> Iterator[list[Any]]:
    """The parts of a batch that have one entry a sample, each as a list of comparable rows."""
    if isinstance(batch, Mapping):
        for value in batch.values():
            yield from _columns(value, size)
    elif isinstance(batch, Tensor):
        if batch.ndim and len(batch) == size and batch.layout == torch.strided:
            yield [_row(row) for row in batch]
    elif isinstance(batch, list | tuple):
        rows = [_row(item) for item in batch]
        if len(batch) == size and all(row is not None for row in rows):
            yield rows
        else:
            for value in batch:
                yield from _columns(value, size)


def _row(item: Any) -> Any:
    """What tells a sample's entry from another's; None where that is unknown."""
    if isinstance(item, Tensor) and item.layout == torch.strided:
        return tuple(item.shape), str(item.dtype), item.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    return (type(item).__name__, item) if isinstance(item, str | bytes | int | float) else None
