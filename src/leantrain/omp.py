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
            residual = target - units.total(active.units, weights)
        barred[best] = best not in active.units
    return Solution(active.units, weights, float(residual.norm()) / goal if goal else 0.0)


class _Active:
    """The chosen units with the Cholesky factor L of their Gram matrix plus lambda, which follows each change.

    The factor is kept as its inverse, whose row i combines the gradients into one orthogonal to those before: all that
    is asked of it are then products of the matrix and a vector.

    Attributes:
        units: (k,) int64, in the order of the factor's rows.
    """

    def __init__(self, capacity: int, regularisation: float) -> None:
        self.capacity, self.regularisation = capacity, regularisation
        self.units = torch.empty(0, dtype=torch.int64)
        self._right = torch.empty(0, dtype=torch.float64)  # b, <g_i, target>
        self._rows = torch.zeros(capacity, capacity, dtype=torch.float64)  # L^-1, as far as k

    def __len__(self) -> int:
        return len(self.units)

    @property
    def _inverse(self) -> Tensor:
        return self._rows[: len(self), : len(self)]

    def add(self, unit: Tensor, gram: Tensor, square: Tensor, right: Tensor) -> bool:
        """Append a unit by its products with the chosen ones (k,), itself and the target; False if it adds nothing."""
        row = self._inverse @ gram  # of L
        diagonal = square + self.regularisation
        pivot = diagonal - row.square().sum()
        if pivot <= EXACT * diagonal:  # a copy of, or a sum over, what is there
            return False
        k = len(self)
        self._rows[k, :k], self._rows[k, k] = -(row @ self._inverse) / pivot.sqrt(), 1 / pivot.sqrt()
        self.units = torch.cat([self.units, unit.unsqueeze(0)])
        self._right = torch.cat([self._right, right.unsqueeze(0)])
        return True

    def solve_from(self, weights: Tensor) -> Tensor:
        """(k,) weights above zero of what stays, starting from ``weights`` >= 0: Lawson and Hanson's inner loop."""
        while True:
            free = (self._inverse @ self._right) @ self._inverse  # L^-T L^-1 b, without regard to the sign
            low = free <= 0
            if not low.any():
                return free
            step = (weights[low] / (weights[low] - free[low])).min()  # as far as no weight falls below zero
            weights = weights + step * (free - weights)
            leaves = low & (weights <= EXACT * weights.max())
            for position in leaves.nonzero().flatten().flip(0).tolist():
                kept = torch.arange(len(self)) != position
                smaller = without(self._inverse, position)
                self.units, self._right = self.units[kept], self._right[kept]
                self._inverse.copy_(smaller)
            weights = weights[~leaves]


def without(inverse: Tensor, position: int) -> Tensor:
    """The inverse Cholesky factor once a row and column of the matrix are gone, from that before (k, k), in k^2 steps.

    Of the factor, the rows below ``position`` get back what their column x there stood for: their part L becomes
    L K, where K K^T = I + p p^T with p = L^-1 x. With a_i = 1 + p_1^2 + ... + p_i^2, the entry (i, j) of K^-1 is
    -p_i p_j / sqrt(a_i a_{i-1}) below the diagonal and sqrt(a_{i-1} / a_i) on it.
    """
    above, row, below = inverse[:position], inverse[position], inverse[position + 1 :]
    p = -below[:, position] / row[position]
    below = torch.addr(below, p, row)  # as if x were not; its column at ``position`` is zero now
    after = 1 + p.square().cumsum(0)
    before = after - p.square()
    earlier = (below * p.unsqueeze(1)).cumsum(0) - below * p.unsqueeze(1)  # sum over j < i of p_j times row j
    below = below * (before / after).sqrt().unsqueeze(1) - earlier * (p / (after * before).sqrt()).unsqueeze(1)
    kept = torch.arange(len(inverse)) != position
    return torch.cat([above, below])[:, kept]
