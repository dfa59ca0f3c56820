"""The open training batch: what was kept of judged batches and waits until a whole batch is together.

B = samples of a batch, K = samples kept of it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from leantrain.utils import nested_batch


class OpenBatch:
    """Kept samples with their data, first in first out.

    Only the user's own ``collate_fn`` knows how to join samples of two batches. So where there is one, data are lists
    of samples, and become a batch when it is handed out.

    Args:
        collate: the user's ``collate_fn`` when data are samples; None when they are batches of ``default_collate``.

    Attributes:
        indices: (K,) int64 of the samples that wait.
    """

    def __init__(self, collate: Callable[[list[Any]], Any] | None) -> None:
        self.collate = collate
        self.indices = torch.empty(0, dtype=torch.int64)
        self._pieces: list[Any] = []

    def __len__(self) -> int:
        return len(self.indices)

    def add(self, indices: Tensor, data: Any) -> None:
        """Append samples; ``data`` as loaded."""
        if len(indices):
            self._pieces.append(data)
            self.indices = torch.cat([self.indices, indices])

    def pop(self, size: int) -> Any:
        """The data of the first ``size`` samples, or of all where there are fewer."""
        whole, positions = self._join(), torch.arange(len(self))
        self._pieces = [self.take(whole, positions[size:])] if len(self) > size else []
        self.indices = self.indices[size:]
        return self.take(whole, positions[:size])

    def take(self, data: Any, positions: Tensor) -> Any:
        """``data`` of the samples at ``positions`` (K,)."""
        return [data[i] for i in positions.tolist()] if self.collate else nested_batch.take(data, positions)

    def batch(self, data: Any) -> Any:
        """``data`` as the batch that the user's loop expects."""
        return self.collate(data) if self.collate else data

    def _join(self) -> Any:
        return (
            [sample for piece in self._pieces for sample in piece] if self.collate else nested_batch.join(self._pieces)
        )
