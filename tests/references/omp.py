"""Orthogonal matching pursuit with non-negative weights, on dense vectors. Plain loops, from the textbooks."""

from itertools import combinations
from math import fsum


def gradient(delta: list[float], features: list[float]) -> list[float]:
    """The last layer's gradient of one sample, bias first in each class's row."""
    return [d * h for d in delta for h in [1.0, *features]]


def total(vectors: list[list[float]]) -> list[float]:
    return [fsum(column) for column in zip(*vectors, strict=True)]


def dot(a: list[float], b: list[float]) -> float:
    return fsum(x * y for x, y in zip(a, b, strict=True))


def least_squares(vectors: list[list[float]], target: list[float], lam: float) -> list[float]:
    """The weights that minimise ||sum w_i v_i - target||^2 + lam ||w||^2, by Gaussian elimination."""
    size = len(vectors)
    rows = [[dot(a, b) + lam * (a is b) for b in vectors] + [dot(a, target)] for a in vectors]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(size):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def missing(vectors: list[list[float]], weights: list[float], target: list[float]) -> list[float]:
    """target - sum w_i v_i."""
    left = list(target)
    for vector, weight in zip(vectors, weights, strict=True):
        left = [x - weight * y for x, y in zip(left, vector, strict=True)]
    return left


def omp(
    vectors: list[list[float]], target: list[float], count: int, lam: float = 0.0, eps: float = 1e-4
) -> tuple[dict[int, float], float]:
    """Weights by index, and the relative residual."""
    chosen: list[int] = []
    weights: list[float] = []
    left = list(target)
    goal = dot(target, target) ** 0.5
    while len(chosen) < min(count, len(vectors)) and dot(left, left) ** 0.5 > max(eps, 1e-10) * goal:
        agreement = {i: dot(vectors[i], left) for i in range(len(vectors)) if i not in chosen}
        best = max(agreement, key=agreement.__getitem__)
        if agreement[best] <= 0:
            break
        chosen, weights = [*chosen, best], [*weights, 0.0]
        while True:  # Lawson and Hanson, steps 6 to 11
            free = least_squares([vectors[i] for i in chosen], target, lam)
            if min(free) > 0:
                weights = free
                break
            step = min(w / (w - f) for w, f in zip(weights, free, strict=True) if f <= 0)
            weights = [w + step * (f - w) for w, f in zip(weights, free, strict=True)]
            stays = [w > 1e-10 * max(weights) for w in weights]
            chosen = [i for i, stay in zip(chosen, stays, strict=True) if stay]
            weights = [w for w, stay in zip(weights, stays, strict=True) if stay]
        left = missing([vectors[i] for i in chosen], weights, target)
    return dict(zip(chosen, weights, strict=True)), dot(left, left) ** 0.5 / goal if goal else 0.0


def best_weights(vectors: list[list[float]], target: list[float], lam: float) -> tuple[list[float], float]:
    """The non-negative weights of all vectors with the smallest objective, by trying every subset."""
    best, value = [0.0] * len(vectors), dot(target, target)
    for size in range(1, len(vectors) + 1):
        for subset in combinations(range(len(vectors)), size):
            weights = least_squares([vectors[i] for i in subset], target, lam)
            if min(weights) < 0:
                continue
            left = missing([vectors[i] for i in subset], weights, target)
            objective = dot(left, left) + lam * dot(weights, weights)
            if objective < value:
                value = objective
                best = [dict(zip(subset, weights, strict=True)).get(i, 0.0) for i in range(len(vectors))]
    return best, value
