"""OrderDP: the chance of a sample to be used, by its rank among the losses."""

import math
from fractions import Fraction


def chance(rank: int, size: int, subset: int, kept: int) -> Fraction:
    """Of the sample with ``rank`` larger losses: it is in the subset, and fewer than ``kept`` of those are too."""
    ways = sum(
        math.comb(rank, above) * math.comb(size - 1 - rank, subset - 1 - above)
        for above in range(min(kept, rank + 1))
        if 0 <= subset - 1 - above <= size - 1 - rank
    )
    return Fraction(ways, math.comb(size, subset))
