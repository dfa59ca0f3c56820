"""Grad-Match and Grad-Match-PB with every gradient built. Plain loops."""

import math
from fractions import Fraction

from references.omp import gradient, omp, total


def count(ratio: str, size: int) -> int:
    return math.ceil(Fraction(ratio) * size)


def vectors(delta: list[list[float]], features: list[list[float]], score: int | None) -> list[list[float]]:
    """Of each sample the gradient of all scores, or of ``score`` only."""
    return [gradient(d if score is None else [d[score]], h) for d, h in zip(delta, features, strict=True)]


def per_class(
    delta: list[list[float]],
    features: list[list[float]],
    labels: list[int],
    ratio: str,
    lam: float,
    eps: float,
    *,
    one_score: bool,
    validation: tuple[list[list[float]], list[list[float]], list[int]] | None = None,
) -> tuple[dict[int, float], int, float]:
    """Weights before normalisation, how many samples are wanted in all, and the mean relative residual."""
    weights: dict[int, float] = {}
    wanted, residuals = 0, []
    for label in sorted(set(labels)):
        members = [i for i in range(len(labels)) if labels[i] == label]
        score = label if one_score else None
        own = vectors([delta[i] for i in members], [features[i] for i in members], score)
        target = total(own)
        if validation:
            theirs = vectors(validation[0], validation[1], score)
            target = total([v for v, its in zip(theirs, validation[2], strict=True) if its == label])
            target = [x * len(labels) / len(theirs) for x in target]
        found, residual = omp(own, target, count(ratio, len(members)), lam, eps)
        weights |= {members[i]: weight for i, weight in found.items()}
        residuals.append(residual)
        wanted += count(ratio, len(members))
    return weights, wanted, math.fsum(residuals) / len(residuals)


def per_batch(
    delta: list[list[float]], features: list[list[float]], batches: list[list[int]], ratio: str, lam: float, eps: float
) -> tuple[dict[int, float], int, float]:
    """Weights of batches before normalisation, how many are wanted, and the relative residual."""
    every = vectors(delta, features, None)
    means = [[x / len(batch) for x in total([every[i] for i in batch])] for batch in batches]
    found, residual = omp(means, total(means), count(ratio, len(batches)), lam, eps)
    return found, count(ratio, len(batches)), residual
