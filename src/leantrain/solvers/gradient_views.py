"""Two ways for orthogonal matching pursuit to see gradients: as vectors, or by their products with all atoms.

n atoms, k of them chosen. A gradient, or a combination of gradients, is a vector of length m: m = c * (d + 1) numbers
of its own, or its m = n inner products with the atoms, which say as much and are made from the factors.
"""

import torch
from torch import Tensor

from leantrain.solvers.gradient_factors import Dictionary, everything

ROUNDED = 1e-12  # of a square that is the difference of larger ones: below, little of it is left


class VectorView:
    """Every gradient is held, which pays where they are no longer than what the chosen ones take anyway.

    Args:
        columns: (m, n) the gradients; each step reads them all, twice as fast in this order.
        target: (c, d + 1); by default the sum of all.

    Attributes:
        target: (m,) float64, as it is seen here.
        square: ||target||^2, of the gradient itself.
    """

    def __init__(self, columns: Tensor, target: Tensor | None) -> None:
        self._columns = columns
        if target is None:  # by parts, since torch widens all that it sums in float64
            target = torch.cat([part.sum(dim=1, dtype=torch.float64) for part in columns.split(64)])
        self.target = target.flatten().double()
        self.square = float(self.target @ self.target)

    def gradient(self, atom: int) -> Tensor:
        """(m,) float64, of one atom."""
        return self._columns[:, atom].double()

    def agreement(self, vector: Tensor) -> Tensor:
        """(n,) <g_i, vector>."""
        return torch.mv(self._columns.T, vector.to(self._columns))  # ``vector @`` would go through a slower kernel

    def product(self, vector: Tensor, atom: int, gradient: Tensor) -> float:
        """<vector, g_atom>; ``gradient`` is that of the atom."""
        return float(vector @ gradient)

    def products(self, vectors: Tensor, atom: int, gradient: Tensor) -> Tensor:
        """(k,) float64, <v, g_atom> of each of ``vectors`` (k, m)."""
        return vectors @ gradient

    def residual(self, missing: Tensor, lengths: Tensor, penalty: float, atoms: Tensor, weights: Tensor) -> float:
        """||target - sum w_i g_i||.

        Args:
            missing: that difference.
            lengths: (k,) of the target along an orthonormal basis of the (g_i, sqrt(lambda) e_i).
            penalty: lambda ||w||^2.
            atoms, weights: of the sum.
        """
        return float(missing.norm())


class GramView:
    """A vector is known by its products with the atoms, so nothing of the size of a gradient is touched in a step.

    Args:
        atoms: whose columns of the Gram matrix are made one at a time.
        target: (c, d + 1); by default the sum of all.
    """

    def __init__(self, atoms: Dictionary, target: Tensor | None) -> None:
        self._units, self._matrix = atoms, None if target is None else target.double()
        if self._matrix is None:
            self.target = atoms.sums()
            self.square = max(float(self.target.sum()), 0.0)
        else:
            self.target = atoms.inner(self._matrix)
            self.square = float(self._matrix.square().sum())

    def gradient(self, atom: int) -> Tensor:
        return self._units.column(atom)

    def agreement(self, vector: Tensor) -> Tensor:
        return vector

    def product(self, vector: Tensor, atom: int, gradient: Tensor) -> float:
        return float(vector[atom])

    def products(self, vectors: Tensor, atom: int, gradient: Tensor) -> Tensor:
        return vectors[:, atom]

    def residual(self, missing: Tensor, lengths: Tensor, penalty: float, atoms: Tensor, weights: Tensor) -> float:
        square = self.square - float(lengths.square().sum()) - penalty  # Pythagoras
        if square > ROUNDED * self.square:
            return square**0.5
        target = everything(self._units) if self._matrix is None else self._matrix
        return float((target - self._units.total(atoms, weights)).norm())


View = VectorView | GramView


def view(atoms: Dictionary, target: Tensor | None, count: int) -> View:
    """The cheaper way to choose up to ``count`` of the atoms; without a target it is the sum of all."""
    columns = atoms.vectors(count)
    return GramView(atoms, target) if columns is None else VectorView(columns, target)
