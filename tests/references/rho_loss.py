"""RHO-LOSS, Eq. 3: the top n_b of a large batch by loss less irreducible loss."""

import math
from fractions import Fraction


def kept(losses: list[float], irreducible: list[float], keep_ratio: str) -> list[int]:
    count = math.ceil(Fraction(keep_ratio) * len(losses))
    order = sorted(range(len(losses)), key=lambda i: (irreducible[i] - losses[i], i))
    return sorted(order[:count])
