"""Forgetting events, counted along each sample's presentations; what is left when the least forgotten are dropped."""

import math
from fractions import Fraction


def events(presentations: list[bool]) -> float:
    """Times that a right presentation is followed by a wrong one; infinite where none is right."""
    if not any(presentations):
        return math.inf
    return sum(1 for i in range(1, len(presentations)) if presentations[i - 1] and not presentations[i])


def dropped(size: int, prune_ratio: str) -> int:
    return math.floor(Fraction(prune_ratio) * size)


def kept(scores: list[float], keep: int, *, skip: int = 0) -> list[int]:
    """Of distinct scores the ``keep`` highest after the ``skip`` highest."""
    order = sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)
    return sorted(order[skip : skip + keep])
