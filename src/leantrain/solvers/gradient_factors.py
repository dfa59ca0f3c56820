"""What orthogonal matching pursuit chooses from: last-layer gradients of samples or batches, by their factors alone.

n atoms, c classes, d features. The gradient of sample i is the (c, d + 1) matrix g_i = delta_i (x) [1; h_i], the bias
first: delta_i (c,) is softmax minus one-hot target, h_i (d,) the input of the layer. All that is asked of it comes from
the factors, <g_i, M> = delta_i^T M [1; h_i], so no n x (c * d) matrix is ever built: besides the factors there are
single (c, d + 1) matrices and blocks of rows.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

BLOCK = 2048  # rows dealt with at a time where a copy is needed
SQUARE = 8192  # batches whose products with each other are held, all together
NUMBERS = 2**25  # dealt with at a time where those are made


class SampleGradients:
    """Every sample is an atom.

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

    def inner(self, matrix: Tensor) -> Tensor:
        """(n,) float64, <g_i, matrix>."""
        bias, weight = matrix[:, :1], matrix[:, 1:]
        parts = [
            (weight @ h.T).add_(bias).mul_(delta.T).sum(dim=0) for delta, h in self._factors(torch.arange(len(self)))
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)

    def total(self, which: Tensor, weights: Tensor) -> Tensor:
        """(c, d + 1) float64, the sum of weight times gradient over the atoms ``which``."""
        result = torch.zeros(self.delta.shape[1], self.features.shape[1] + 1, dtype=torch.float64)
        for (delta, h), share in zip(self._factors(which), weights.split(BLOCK), strict=True):
            weighted = (delta * share.unsqueeze(1)).T
            result[:, 0] += weighted.sum(dim=1)
            result[:, 1:].addmm_(weighted, h)
        return result

    def column(self, atom: int) -> Tensor:
        """(n,) float64, <g_i, g_atom>."""
        delta, h = self._columns
        return (delta.T @ delta[:, atom]).mul_((h.T @ h[:, atom]).add_(1))

    def sums(self) -> Tensor:
        """(n,) float64, <g_i, sum of all g_j>."""
        (n, c), d = self.delta.shape, self.features.shape[1]
        if n * (c + d) > 2 * c * d:
            return self.inner(everything(self))
        delta, h = self._columns
        return (delta.T @ delta).mul_((h.T @ h).add_(1)).sum(dim=1)

    def vectors(self, most: int) -> Tensor | None:
        """(c * (d + 1), n) the gradients, in the factors' precision; None if that does not pay for ``most`` chosen."""
        c, d = self.delta.shape[1], self.features.shape[1]
        if c * (d + 1) > most + c + d:  # a column takes c + d multiply-adds an atom, and ``most`` to be made orthogonal
            return None
        columns = self.delta.new_empty(c, d + 1, len(self), dtype=torch.result_type(self.delta, self.features))
        columns[:, 0] = self.delta.T
        torch.mul(self.delta.T.unsqueeze(1), self.features.T, out=columns[:, 1:])
        return columns.flatten(0, 1)

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor]:
        """(c, n) and (d, n) float64; read whole in each step, faster in this order."""
        wide = [torch.empty(part.T.shape, dtype=torch.float64).copy_(part.T) for part in (self.delta, self.features)]
        return wide[0], wide[1]

    def _factors(self, which: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in which.split(BLOCK):
            yield self.delta[rows].double(), self.features[rows].double()


class BatchGradients:
    """Every batch of samples is an atom; its gradient is the mean of theirs, which is no longer a single product.

    Args:
        samples: the samples' factors.
        batches: the samples of each batch.
    """

    def __init__(self, samples: SampleGradients, batches: Sequence[Tensor]) -> None:
        self.samples, self.batches = samples, batches
        self.sizes = torch.tensor([len(batch) for batch in batches])

    def __len__(self) -> int:
        return len(self.batches)

    def inner(self, matrix: Tensor) -> Tensor:
        rows, owner, sizes = self._members(torch.arange(len(self)))
        each = self.samples.inner(matrix)[rows]
        return torch.zeros(len(sizes), dtype=each.dtype).index_add_(0, owner, each) / sizes

    def total(self, which: Tensor, weights: Tensor) -> Tensor:
        rows, owner, sizes = self._members(which)
        return self.samples.total(rows, (weights / sizes)[owner])

    def column(self, atom: int) -> Tensor:
        if len(self) > SQUARE:
            return self.inner(self.total(torch.tensor([atom]), torch.ones(1, dtype=torch.float64)))
        return self._gram[atom]

    def sums(self) -> Tensor:
        return self.inner(everything(self)) if len(self) > SQUARE else self._gram.sum(dim=1)

    def vectors(self, most: int) -> Tensor | None:
        return None

    @cached_property
    def _gram(self) -> Tensor:
        """(n, n) products of the batches' gradients, summed over some scores at a time."""
        samples, n = self.samples, len(self)
        c, width = samples.delta.shape[1], samples.features.shape[1] + 1
        gram = torch.zeros(n, n, dtype=torch.float64)
        for scores in torch.arange(c).split(max(1, NUMBERS // (n * width))):
            means = torch.empty(n, len(scores), width, dtype=torch.float64)
            for mean, batch in zip(means, self.batches, strict=True):
                delta = samples.delta[batch][:, scores].T.double() / len(batch)
                mean[:, 0] = delta.sum(dim=1)
                torch.mm(delta, samples.features[batch].double(), out=mean[:, 1:])
            gram.addmm_(means.flatten(1), means.flatten(1).T)
        return gram

    def _members(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The samples of the batches ``which``, the position in ``which`` that each belongs to, the batches' sizes."""
        sizes = self.sizes[which]
        owner = torch.arange(len(which)).repeat_interleave(sizes)
        rows = [self.batches[batch] for batch in which.tolist()]
        return torch.cat([owner[:0], *rows]), owner, sizes


Dictionary = SampleGradients | BatchGradients


def everything(atoms: Dictionary) -> Tensor:
    """(c, d + 1) float64, the sum of the gradients of all atoms."""
    return atoms.total(torch.arange(len(atoms)), torch.ones(len(atoms), dtype=torch.float64))
