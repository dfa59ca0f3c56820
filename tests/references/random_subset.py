"""Random subsets: how many, and RS2's rule that nothing is used again before everything was used."""

import math
from fractions import Fraction


def count(keep_ratio: str, size: int) -> int:
    return math.ceil(Fraction(keep_ratio) * size)


def is_without_replacement(usage: list[int], subset: list[int]) -> bool:
    """Whether ``subset`` takes no sample that was used more often than one that it leaves out."""
    if len(set(subset)) < len(subset):
        return False
    left_out = [usage[i] for i in range(len(usage)) if i not in set(subset)]
    return not left_out or max(usage[i] for i in subset) <= min(left_out)
