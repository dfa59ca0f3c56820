"""RandomPB by counting."""

import math
from fractions import Fraction


def sizes(size: int, batch_size: int) -> list[int]:
    """Of the fixed batches."""
    return [min(batch_size, size - start) for start in range(0, size, batch_size)]


def count(ratio: str, batches: int) -> int:
    return math.ceil(Fraction(ratio) * batches)
