"""What orthogonal matching pursuit chooses from: last-layer gradients of samples or batches, by their factors alone.

n units, c classes, d features. The gradient of sample i is the (c, d + 1) matrix g_i = delta_i (x) [1; h_i], the bias
first: delta_i (c,) is softmax minus one-hot target, h_i (d,) the input of the layer. All that is asked of it comes from
the factors, <g_i, M> = delta_i^T M [1; h_i], so no n x (c * d) matrix is ever built: besides the factors there are
single (c, d + 1) matrices and blocks of rows.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

BLOCK = 8192  # rows dealt with at a time where a copy is needed


class Units(Protocol):
    """What ``omp`` chooses from."""

    def __len__(self) -> int: ...

    def inner(self, matrix: Tensor, which: Tensor | None = None) -> Tensor:
        """<g_i, matrix> of the units ``which``, in float64; of all, in the precision of the factors."""
        ...

    def total(self, which: Tensor, weights: Tensor) -> Tensor:
        """(c, d + 1) float64, the sum of weight times gradient over the units ``which``."""
        ...


class Samples:
    """Every sample is a unit.

    Args:
        delta: (n, c) softmax minus one-hot target, or single columns of it.
        features: (n, d) inputs of the last layer.
    """

    def __init__(self, delta: Tensor, features: Tensor) -> None:
        if delta.ndim != 2 or features.ndim != 2 or len(delta) != len(features):
            raise ValueError(
                f"delta and features have shapes {tuple(delta.shape)} and {tuple(features.shape)}; expected (n, c) and "
                "(n, d), one row a sample in each."
            )
        for name, values in (("delta", delta), ("features", features)):
            broken = (~values.sum(dim=1).isfinite()).nonzero().flatten()
            if len(broken):
                raise ValueError(f"{name} of {len(broken)} samples are not finite, first {broken[:5].tolist()}.")
        self.delta, self.features = delta, features

    def __len__(self) -> int:
        return len(self.delta)

    def inner(self, matrix: Tensor, which: Tensor | None = None) -> Tensor:
        bias, weight = matrix[:, :1], matrix[:, 1:]
        parts = [(weight.to(h) @ h.T).add_(bias.to(h)).mul_(delta.T).sum(dim=0) for delta, h in self._factors(which)]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)

    def total(self, which: Tensor, weights: Tensor) -> Tensor:
        result = torch.zeros(self.delta.shape[1], self.features.shape[1] + 1, dtype=torch.float64)
        for (delta, h), share in zip(self._factors(which), weights.split(BLOCK), strict=True):
            weighted = (delta * share.unsqueeze(1)).T
            result[:, 0] += weighted.sum(dim=1)
            result[:, 1:].addmm_(weighted, h)
        return result

    def _factors(self, which: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        if which is None:
            yield from zip(self.delta.split(BLOCK), self.features.split(BLOCK), strict=True)
            return
        for rows in which.split(BLOCK):
            yield self.delta[rows].double(), self.features[rows].double()


class Batches:
    """Every batch of samples is a unit; its gradient is the mean of theirs, which is no longer a single product.

    Args:
        samples: the samples' factors.
        batches: the samples of each batch.
    """

    def __init__(self, samples: Samples, batches: Sequence[Tensor]) -> None:
        self.samples, self.batches = samples, batches
        self.sizes = torch.tensor([len(batch) for batch in batches])

    def __len__(self) -> int:
        return len(self.batches)

    def inner(self, matrix: Tensor, which: Tensor | None = None) -> Tensor:
        rows, owner, sizes = self._members(torch.arange(len(self)) if which is None else which)
        each = self.samples.inner(matrix)[rows] if which is None else self.samples.inner(matrix, rows)
        return torch.zeros(len(sizes), dtype=each.dtype).index_add_(0, owner, each) / sizes

    def total(self, which: Tensor, weights: Tensor) -> Tensor:
        rows, owner, sizes = self._members(which)
        return self.samples.total(rows, (weights / sizes)[owner])

    def _members(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The samples of the batches ``which``, the position in ``which`` that each belongs to, the batches' sizes."""
        sizes = self.sizes[which]
        owner = torch.arange(len(which)).repeat_interleave(sizes)
        rows = [self.batches[batch] for batch in which.tolist()]
        return torch.cat([owner[:0], *rows]), owner, sizes
