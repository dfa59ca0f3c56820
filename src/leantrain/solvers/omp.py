"""Orthogonal matching pursuit with non-negative weights.

n atoms to choose from, k chosen ones; a gradient is a (c, d + 1) matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from leantrain.solvers.gradient_factors import Dictionary
from leantrain.solvers.gradient_views import View, view

STEPS = 5  # most steps for each atom asked for; those that the weights' sign throws out again cost some
EXACT = 1e-10  # of a pivot or a residual: no more than rounding
WIDTH = 512  # columns of the basis recombined at a time
BLOCK = 256  # rows of a triangle dealt with at a time, so that little of its empty half is read


@dataclass(frozen=True, slots=True)
class Solution:
    """Chosen atoms and their weights.

    Args:
        indices: (K,) int64, distinct, in the order in which they were chosen.
        weights: (K,) float64, above zero.
        residual: ||sum of w_i g_i - target|| / ||target||; 0 when the target is zero.
    """

    indices: Tensor
    weights: Tensor
    residual: float


def omp(
    atoms: Dictionary, count: int, *, target: Tensor | None = None, regularisation: float = 0.0, tolerance: float = 1e-4
) -> Solution:
    """At most ``count`` atoms and weights w >= 0 that greedily minimise ||sum w_i g_i - target||^2 + lambda ||w||^2.

    Each step adds the atom whose gradient agrees most with what is still missing, and solves for the weights of all
    chosen ones; an atom whose weight is not above zero leaves again, by the rule of Lawson and Hanson. With a ``count``
    of n the result is the exact non-negative least-squares solution.

    Stops at ``count`` atoms, at a relative residual below ``tolerance``, or when no atom agrees with what is missing: a
    positive weight of any other one would only do harm.

    Args:
        atoms: ``SampleGradients`` or ``BatchGradients``.
        count: most atoms to choose.
        target: (c, d + 1), bias first; by default the sum of all atoms' gradients.
        regularisation: lambda.
        tolerance: of the relative residual.

    Cost: in a step that adds the k-th atom k^2 / 2 multiply-adds and, of the two ways to see the gradients, the cheaper
    one (``gradient_views``): as vectors, n * c * d in the factors' precision and 2 * k * c * d; by their products,
    n * (c + d) and n * k, after at most 2 * n * c * d once.

    Source: Pati et al., "Orthogonal Matching Pursuit", 1993; Lawson and Hanson, "Solving Least Squares Problems", 1974,
    chapter 23; Killamsetty et al., "GRAD-MATCH", ICML 2021, Algorithm 2.
    """
    capacity = min(count, len(atoms))
    seen = view(atoms, target, capacity)
    goal = seen.square**0.5
    if not goal < torch.inf:
        raise ValueError("The gradient to be matched is not finite.")
    active = _Active(seen, capacity, regularisation)
    free = torch.ones(len(atoms), dtype=torch.bool)  # neither chosen nor known to agree by rounding only
    for _ in range(STEPS * capacity):
        if len(active) == capacity or active.residual() <= max(tolerance, EXACT) * goal:
            break
        agreement = seen.agreement(active.missing).masked_fill(~free, -torch.inf)
        best = int(agreement.argmax())
        if agreement[best] <= 0:
            break
        before = active.weights
        if active.add(best):
            free[active.balance(before)] = True
        free[best] = False
    return Solution(active.atoms, active.weights, active.residual() / goal if goal else 0.0)


class _Active:
    """The chosen atoms, their weights, and the orthonormal basis that Gram and Schmidt make of their gradients.

    With g'_i = (g_i, sqrt(lambda) e_i), e_i being unit vectors, what is minimised is ||sum w_i g'_i - (target, 0)||^2.
    If L is the Cholesky factor of the Gram matrix of the g'_i, then q'_i = sum of (L^-1)_ij g'_j are orthonormal, and
    the least-squares fit is the sum of a_i q'_i, a_i = <q'_i, (target, 0)>. Row i of the basis is kept as

        (L^-1)_i, by which w = a^T L^-1        q_i, the gradient's part of q'_i, as the view sees it        a_i

    and follows each change: an atom more is a row more; without an atom the rows below its own are combined anew.

    Attributes:
        atoms: (k,) int64, in the order of the rows.
        weights: (k,) float64, above zero once ``balance`` was called.
        missing: target - sum w_i g_i, as the view sees it.
    """

    def __init__(self, seen: View, capacity: int, regularisation: float) -> None:
        self._view, self._lambda = seen, regularisation
        self.atoms = torch.empty(0, dtype=torch.int64)
        self.weights = torch.empty(0, dtype=torch.float64)
        self.missing = seen.target.clone()
        self._rows = torch.zeros(capacity, capacity, dtype=torch.float64)  # L^-1, as far as k
        self._parts = torch.empty(capacity, len(seen.target), dtype=torch.float64)  # q
        self._lengths = torch.empty(capacity, dtype=torch.float64)  # a

    def __len__(self) -> int:
        return len(self.atoms)

    def residual(self) -> float:
        """||sum w_i g_i - target||."""
        penalty = self._lambda * float(self.weights.square().sum())
        return self._view.residual(self.missing, self._lengths[: len(self)], penalty, self.atoms, self.weights)

    def add(self, atom: int) -> bool:
        """Append an atom with the weight that fits best, not minding signs; False if it adds nothing."""
        k, gradient = len(self), self._view.gradient(atom)
        shares = self._view.products(self._parts[:k], atom, gradient)  # <q_i, g>, row k of L
        diagonal = self._view.product(gradient, atom, gradient) + self._lambda
        pivot = diagonal - float(shares.square().sum())
        if pivot <= EXACT * diagonal:  # a copy of, or a sum over, what is there
            return False
        root = pivot**0.5
        row, part = self._rows[k, : k + 1], self._parts[k]
        row[:k] = _times_triangle(shares, self._rows[:k, :k]).div_(-root)
        row[k] = 1 / root
        torch.addmv(gradient, self._parts[:k].T, shares, alpha=-1, out=part).div_(root)
        length = self._view.product(self.missing, atom, gradient) / root  # what is missing is orthogonal to the others
        self._lengths[k] = length
        self.missing.sub_(part, alpha=length)
        self.atoms = torch.cat([self.atoms, torch.tensor([atom])])
        self.weights = torch.cat([self.weights, self.weights.new_zeros(1)]).add_(row, alpha=length)
        return True

    def balance(self, before: Tensor) -> Tensor:
        """Lawson and Hanson's inner loop: have atoms leave until all weights are above zero.

        Args:
            before: (k - 1,) weights above zero, of the atoms without the last.

        Returns:
            The atoms that left.
        """
        weights, left = torch.cat([before, before.new_zeros(1)]), [self.atoms[:0]]
        while (low := self.weights <= 0).any():
            step = (weights[low] / (weights[low] - self.weights[low])).min()  # as far as no weight falls below zero
            weights = weights + step * (self.weights - weights)
            leaves = low & (weights <= EXACT * weights.max())
            left.append(self.atoms[leaves])
            for position in leaves.nonzero().flatten().flip(0).tolist():
                self._drop(position)
            weights, k = weights[~leaves], len(self)
            self.weights = _times_triangle(self._lengths[:k], self._rows[:k, :k])
            self.missing = self._view.target - self._lengths[:k] @ self._parts[:k]
        return torch.cat(left)

    def _drop(self, position: int) -> None:
        k = len(self)
        rows, lengths = self._rows[position:k, :k], self._lengths[position:k]
        p = -rows[1:, position] / rows[0, position]
        for table in (rows, lengths.unsqueeze(1), *self._parts[position:k].split(WIDTH, dim=1)):
            table[:-1] = without(table, p)
        rows[:-1, position:-1] = rows[:-1, position + 1 :].clone()
        rows[:-1, -1] = 0
        self.atoms = torch.cat([self.atoms[:position], self.atoms[position + 1 :]])


def without(table: Tensor, p: Tensor) -> Tensor:
    """The rows of a basis once an atom is gone.

    The rows of L^-1 below the atom's get back what their column x of L stood for: their part L becomes L K, where
    K K^T = I + p p^T with p = L^-1 x. With a_i = 1 + p_1^2 + ... + p_i^2, the entry (i, j) of K^-1 is
    -p_i p_j / sqrt(a_i a_{i-1}) below the diagonal and sqrt(a_{i-1} / a_i) on it.

    Args:
        table: (1 + m, any) the atom's row and the m below it, of L^-1 or of what is made of the same rows.
        p: (m,) minus the atom's column in the rows of L^-1 below its own, over its entry in its own.

    Returns:
        (m, as many) the rows that replace those below; of L^-1 the atom's column is zero.
    """
    below = torch.addr(table[1:], p, table[0])  # as if x were not
    after = 1 + p.square().cumsum(0)
    before = after - p.square()
    earlier = (below[:-1] * p[:-1, None]).cumsum(0)  # row i: sum over j <= i of p_j times row j
    below *= (before / after).sqrt().unsqueeze(1)
    below[1:].addcmul_(earlier, (p / (after * before).sqrt())[1:, None], value=-1)
    return below


def _times_triangle(vector: Tensor, lower: Tensor) -> Tensor:
    """(k,) vector^T times a lower triangular matrix (k, k)."""
    result = torch.zeros_like(vector)
    for start in range(0, len(vector), BLOCK):
        end = min(start + BLOCK, len(vector))
        result[:end].addmv_(lower[start:end, :end].T, vector[start:end])
    return result
