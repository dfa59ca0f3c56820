"""Composer's Selective-Backprop: who is judged when (seed 002, Algorithm 1), and how likely each sample is kept."""

import math
from fractions import Fraction
from itertools import permutations


def judged(epoch: int, epochs: int, number: int, *, start: str, end: str, interrupt: int) -> bool:
    within = Fraction(start) <= Fraction(epoch, epochs) < Fraction(end)
    interrupted = interrupt > 0 and number % interrupt == 0
    return within and not interrupted


def count(keep: str, size: int) -> int:
    return math.ceil(Fraction(keep) * size)


def inclusion(losses: list[float], keep: str) -> list[float]:
    """Probability of each sample to be kept, over all orders in which the draws can come."""
    size = len(losses)
    order = sorted(range(size), key=lambda b: losses[b])
    exponent = float(1 / Fraction(keep) - 1)
    weight = [((order.index(b) + 0.5) / size) ** exponent for b in range(size)]
    included = [0.0] * size
    for drawn in permutations(range(size), count(keep, size)):
        probability, rest = 1.0, math.fsum(weight)
        for b in drawn:
            probability *= weight[b] / rest
            rest -= weight[b]
        for b in drawn:
            included[b] += probability
    return included
