"""What differences between runs paired by seed say: an interval, a p-value, and its correction for many methods."""

import math
import statistics
from collections.abc import Sequence


def paired(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Half-width of the interval of the mean of n >= 2 ``differences``, and the p-value of a mean of 0.

    Both by Student's t with n - 1 degrees of freedom, two-sided: mean ± t(level) * s / sqrt(n).
    """
    from scipy.stats import t

    freedom = len(differences) - 1
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    mean = statistics.fmean(differences)
    if error == 0:  # every seed says the same
        return 0.0, 1.0 if mean == 0 else 0.0
    return float(t.ppf((1 + level) / 2, freedom)) * error, float(2 * t.sf(abs(mean) / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order: the chance of any false finding among all stays below the level.

    The i-th smallest of m, i from 0, is multiplied by m - i, and none comes out below a smaller one's. Holds whatever
    way the tests depend on each other, as those do that share a control. Source: Holm, A Simple Sequentially Rejective
    Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
