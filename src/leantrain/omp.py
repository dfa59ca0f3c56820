"""Orthogonal matching pursuit with non-negative weights.

n units to choose from, k chosen ones; a gradient is a (c, d + 1) matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from leantrain.units import Units

STEPS = 5  # most steps for each unit asked for; those that the weights' sign throws out again cost some
EXACT = 1e-10  # of a pivot or a residual: no more than rounding


@dataclass(frozen=True, slots=True)
class Solution:
    """Chosen units and their weights.

    Args:
        indices: (K,) int64, distinct, in the order in which they were chosen.
        weights: (K,) float64, above zero.
        residual: ||sum of w_i g_i - target|| / ||target||; 0 when the target is zero.
    """

    indices: Tensor
    weights: Tensor
    residual: float


def omp(
    units: Units, count: int, *, target: Tensor | None = None, regularisation: float = 0.0, tolerance: float = 1e-4
) -> Solution:
    """At most ``count`` units and weights w >= 0 that greedily minimise ||sum w_i g_i - target||^2 + lambda ||w||^2.

    Each step adds the unit whose gradient agrees most with what is still missing, and solves for the weights of all
    chosen ones; a unit whose weight is not above zero leaves again, by the rule of Lawson and Hanson. With a ``count``
    of n the result is the exact non-negative least-squares solution.

    Stops at ``count`` units, at a relative residual below ``tolerance``, or when no unit agrees with what is missing: a
    positive weight of any other one would only do harm.

    Args:
        units: ``Samples`` or ``Batches``.
        count: most units to choose.
        target: (c, d + 1), bias first; by default the sum of all units' gradients.
        regularisation: lambda.
        tolerance: of the relative residual.

    Cost: n * c * d multiply-adds a step in the factors' precision, k * c * d + k^2 in float64.

    Source: Pati et al., "Orthogonal Matching Pursuit", 1993; Lawson and Hanson, "Solving Least Squares Problems", 1974,
    chapter 23; Killamsetty et al., "GRAD-MATCH", ICML 2021, Algorithm 2.
    """
    if target is None:
        target = units.total(torch.arange(len(units)), torch.ones(len(units), dtype=torch.float64))
    target = target.double()
    goal = float(target.norm())
    if not goal < torch.inf:
        raise ValueError("The gradient to be matched is not finite.")
    active = _Active(min(count, len(units)), regularisation)
    weights = torch.empty(0, dtype=torch.float64)
    barred = torch.zeros(len(units), dtype=torch.bool)  # agree by rounding only
    residual = target
    for _ in range(STEPS * active.capacity):
        if len(active) == active.capacity or float(residual.norm()) <= max(tolerance, EXACT) * goal:
            break
        agreement = units.inner(residual)
        agreement[barred] = -torch.inf
        agreement[active.units] = -torch.inf
        best = agreement.argmax()
        if agreement[best] <= 0:
            break
        gradient = units.total(best.unsqueeze(0), torch.ones(1, dtype=torch.float64))
        added = active.add(
            best, units.inner(gradient, active.units), gradient.square().sum(), (gradient * target).sum()
        )
        if added:
            weights = active.solve_from(torch.cat([weights, weights.new_zeros(1)]))
        if best not in active.units:
            barred[best] = True
            continue
        residual = target - units.total(active.units, weights)
    return Solution(active.units, weights, float(residual.norm()) / goal if goal else 0.0)


class _Active:
    """The chosen units with the Cholesky factor of their Gram matrix plus lambda, which follows each change.

    Attributes:
        units: (k,) int64, in the order of the factor's rows.
    """

    def __init__(self, capacity: int, regularisation: float) -> None:
        self.capacity, self.regularisation = capacity, regularisation
        self.units = torch.empty(0, dtype=torch.int64)
        self._right = torch.empty(0, dtype=torch.float64)  # b, <g_i, target>
        self._half = self._right  # L^-1 b
        self._rows = torch.zeros(capacity, capacity, dtype=torch.float64)  # L, as far as k

    def __len__(self) -> int:
        return len(self.units)

    @property
    def _factor(self) -> Tensor:
        return self._rows[: len(self), : len(self)]

    def add(self, unit: Tensor, gram: Tensor, square: Tensor, right: Tensor) -> bool:
        """Append a unit by its products with the chosen ones (k,), itself and the target; False if it adds nothing."""
        row = solve(self._factor, gram)
        diagonal = square + self.regularisation
        pivot = diagonal - row.square().sum()
        if pivot <= EXACT * diagonal:  # a copy of, or a sum over, what is there
            return False
        k = len(self)
        self._rows[k, :k], self._rows[k, k] = row, pivot.sqrt()
        self.units = torch.cat([self.units, unit.unsqueeze(0)])
        self._right = torch.cat([self._right, right.unsqueeze(0)])
        self._half = torch.cat([self._half, ((right - row @ self._half) / pivot.sqrt()).unsqueeze(0)])
        return True

    def solve_from(self, weights: Tensor) -> Tensor:
        """(k,) weights above zero of what stays, starting from ``weights`` >= 0: Lawson and Hanson's inner loop."""
        while True:
            free = solve(self._factor.T, self._half, upper=True)  # without regard to the sign
            low = free <= 0
            if not low.any():
                return free
            step = (weights[low] / (weights[low] - free[low])).min()  # as far as no weight falls below zero
            weights = weights + step * (free - weights)
            leaves = low & (weights <= EXACT * weights.max())
            for position in leaves.nonzero().flatten().flip(0).tolist():
                self._remove(position)
            self._half = solve(self._factor, self._right)
            weights = weights[~leaves]

    def _remove(self, position: int) -> None:
        """Drop a row and column of the Gram matrix: the rows below get theirs back as a rank-one update."""
        k = len(self)
        below = self._rows[position + 1 : k]
        column, rest = below[:, position].clone(), below[:, position + 1 : k].clone()
        self._rows[position : k - 1, :position] = below[:, :position].clone()
        self._rows[position : k - 1, position : k - 1] = updated(rest, column)
        self._rows[k - 1] = 0
        kept = torch.arange(k) != position
        self.units, self._right = self.units[kept], self._right[kept]


def solve(factor: Tensor, right: Tensor, *, upper: bool = False) -> Tensor:
    """x (k,) of ``factor`` x = ``right``, for a triangular (k, k) factor."""
    return torch.linalg.solve_triangular(factor, right.unsqueeze(1), upper=upper).flatten()


def updated(factor: Tensor, column: Tensor) -> Tensor:
    """The Cholesky factor of L L^T + x x^T, from ``factor`` L (k, k) and ``column`` x (k,), in k^2 operations.

    L L^T + x x^T = L (I + p p^T) L^T with p = L^-1 x, and I + p p^T has a factor in closed form: with
    a_j = 1 + p_1^2 + ... + p_j^2, its entry (i, j) is p_i p_j / sqrt(a_j a_{j-1}) below the diagonal and
    sqrt(a_j / a_{j-1}) on it.
    """
    p = solve(factor, column)
    after = 1 + p.square().cumsum(0)
    before = after - p.square()
    scaled = factor * p
    later = scaled.flip(1).cumsum(1).flip(1) - scaled  # sum over i > j of L[:, i] p_i
    return (factor * (after / before).sqrt() + later * (p / (after * before).sqrt())).tril_()
