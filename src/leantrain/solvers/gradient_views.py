"""Two ways for orthogonal matching pursuit to see gradients: as vectors, or by their products with all units.

n units, k of them chosen. A gradient, or a combination of gradients, is a vector of length m: m = c * (d + 1) numbers
of its own, or its m = n inner products with the units, which say as much and are made from the factors.
"""

from typing import Protocol

import torch
from torch import Tensor

from leantrain.solvers.gradient_factors import Units, everything

ROUNDED = 1e-12  # of a square that is the difference of larger ones: below, little of it is left


class View(Protocol):
    """How gradients look to a search.

    Attributes:
        target: (m,) float64.
        square: ||target||^2, of the gradient itself.
    """

    target: Tensor
    square: float

    def gradient(self, unit: int) -> Tensor:
        """(m,) float64, of one unit."""
        ...

    def agreement(self, vector: Tensor) -> Tensor:
        """(n,) <g_i, vector>."""
        ...

    def product(self, vector: Tensor, unit: int, gradient: Tensor) -> float:
        """<vector, g_unit>; ``gradient`` is that of the unit."""
        ...

    def products(self, vectors: Tensor, unit: int, gradient: Tensor) -> Tensor:
        """(k,) float64, <v, g_unit> of each of ``vectors`` (k, m)."""
        ...

    def residual(self, missing: Tensor, lengths: Tensor, penalty: float, units: Tensor, weights: Tensor) -> float:
        """||target - sum w_i g_i||.

        Args:
            missing: that difference.
            lengths: (k,) of the target along an orthonormal basis of the (g_i, sqrt(lambda) e_i).
            penalty: lambda ||w||^2.
            units, weights: of the sum.
        """
        ...


def view(units: Units, target: Tensor | None, count: int) -> View:
    """The cheaper way to choose up to ``count`` of the units; without a target it is the sum of all."""
    columns = units.vectors(count)
    return ByProduct(units, target) if columns is None else AsVectors(columns, target)


class AsVectors:
    """Every gradient is held, which pays where they are no longer than what the chosen ones take anyway.

    Args:
        columns: (m, n) the gradients; each step reads them all, twice as fast in this order.
        target: (c, d + 1); by default the sum of all.
    """

    def __init__(self, columns: Tensor, target: Tensor | None) -> None:
        self._columns = columns
        if target is None:  # by parts, since torch widens all that it sums in float64
            target = torch.cat([part.sum(dim=1, dtype=torch.float64) for part in columns.split(64)])
        self.target = target.flatten().double()
        self.square = float(self.target @ self.target)

    def gradient(self, unit: int) -> Tensor:
        return self._columns[:, unit].double()

    def agreement(self, vector: Tensor) -> Tensor:
        return torch.mv(self._columns.T, vector.to(self._columns))  # ``vector @`` would go through a slower kernel

    def product(self, vector: Tensor, unit: int, gradient: Tensor) -> float:
        return float(vector @ gradient)

    def products(self, vectors: Tensor, unit: int, gradient: Tensor) -> Tensor:
        return vectors @ gradient

    def residual(self, missing: Tensor, lengths: Tensor, penalty: float, units: Tensor, weights: Tensor) -> float:
        return float(missing.norm())


class ByProduct:
    """A vector is known by its products with the units, so nothing of the size of a gradient is touched in a step.

    Args:
        units: whose columns of the Gram matrix are made one at a time.
        target: (c, d + 1); by default the sum of all.
    """

    def __init__(self, units: Units, target: Tensor | None) -> None:
        self._units, self._matrix = units, None if target is None else target.double()
        if self._matrix is None:
            self.target = units.sums()
            self.square = max(float(self.target.sum()), 0.0)
        else:
            self.target = units.inner(self._matrix)
            self.square = float(self._matrix.square().sum())

    def gradient(self, unit: int) -> Tensor:
        return self._units.column(unit)

    def agreement(self, vector: Tensor) -> Tensor:
        return vector

    def product(self, vector: Tensor, unit: int, gradient: Tensor) -> float:
        return float(vector[unit])

    def products(self, vectors: Tensor, unit: int, gradient: Tensor) -> Tensor:
        return vectors[:, unit]

    def residual(self, missing: Tensor, lengths: Tensor, penalty: float, units: Tensor, weights: Tensor) -> float:
        square = self.square - float(lengths.square().sum()) - penalty  # Pythagoras
        if square > ROUNDED * self.square:
            return square**0.5
        target = everything(self._units) if self._matrix is None else self._matrix
        return float((target - self._units.total(units, weights)).norm())
