"""The open training batch: what was kept of judged batches and waits until a whole batch is together.

B = samples of a batch, K = samples kept of it, W = number of ranks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from leantrain.distributed.process_group import Ranks
from leantrain.utils import nested_batch

NOTHING = torch.empty(0, dtype=torch.int64)


class OpenBatch:
    """Kept samples, first in first out: the indices of every rank's, the data of this rank's own.

    Only the user's own ``collate_fn`` knows how to join samples of two batches. So where there is one, data are lists
    of samples, and become a batch when they are handed out.

    Args:
        collate: the user's ``collate_fn`` when data are samples; None when they are batches of ``default_collate``.

    Attributes:
        indices: (K,) int64, what waits between epochs, of all ranks. Indices only: the samples are read again, which
            keeps the state small and exact.
        held: (K,) int64 of each rank, what waits within an epoch that is decided as its scores come in.
    """

    def __init__(self, collate: Callable[[list[Any]], Any] | None, ranks: Ranks) -> None:
        self.collate, self.ranks = collate, ranks
        self.indices = NOTHING
        self.held = [NOTHING] * ranks.count
        self._data: list[Any] = []  # pieces of this rank's batches, together as long as its ``held``

    def start(self, held: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Begin an epoch; returns what is to be read again and kept first: (K,) int64 of each rank."""
        self.held, self._data = [NOTHING] * self.ranks.count, []
        return list(self.indices.tensor_split(self.ranks.count)) if held is None else list(held)

    def keep(self, parts: Sequence[Tensor], kept: Tensor, data: Any) -> None:
        """Append samples.

        Args:
            parts: (B,) int64 of each rank, the batches that they are kept of.
            kept: (K,) int64 positions within all ``parts``.
            data: of this rank's part, as loaded.
        """
        start = 0
        for rank, part in enumerate(parts):
            own = kept[(kept >= start) & (kept < start + len(part))] - start
            self.held[rank] = torch.cat([self.held[rank], part[own]])
            if rank == self.ranks.rank and len(own):
                self._data.append(self._take(data, own))
            start += len(part)

    def pop(self, size: int, least: int) -> tuple[list[Tensor], Any] | None:
        """The next training batch, ``size`` samples of each rank or what there is: indices of each rank, data.

        None where a rank has fewer than ``least``.
        """
        if min(map(len, self.held)) < least:
            return None
        given, self.held = [indices[:size] for indices in self.held], [indices[size:] for indices in self.held]
        return given, self._pop_data(len(given[self.ranks.rank]), len(self.held[self.ranks.rank]))

    def deal_out(self) -> None:
        """Share out evenly what the ranks hold; on several, data are then no longer at hand."""
        self.held = list(torch.cat(self.held).tensor_split(self.ranks.count))
        self._data = self._data if self.ranks.count == 1 else []

    def close(self) -> None:
        """End an epoch begun with ``start``: what is held waits for the next one."""
        self.indices = torch.cat(self.held)
        self.start()

    def collated(self, data: Any) -> Any:
        """``data`` as the batch that the user's loop expects."""
        return self.collate(data) if self.collate else data

    def _pop_data(self, size: int, left: int) -> Any:
        """The data of the first ``size`` samples, of which ``left`` stay; None where they are not at hand."""
        if not self._data:
            return None
        if self.collate:
            whole = [sample for piece in self._data for sample in piece]
        else:
            whole = nested_batch.join(self._data)
        self._data = [self._take(whole, torch.arange(size, size + left))] if left else []
        return self._take(whole, torch.arange(size)) if left else whole

    def _take(self, data: Any, positions: Tensor) -> Any:
        return [data[i] for i in positions.tolist()] if self.collate else nested_batch.take(data, positions)
