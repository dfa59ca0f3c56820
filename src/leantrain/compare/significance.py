"""What differences between runs paired by seed say: an interval, a p-value, and its correction for many methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np

ROUNDING = 1e-12  # relative difference of what is equal but for rounding


def paired(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Half-width of the interval of the mean of n >= 2 ``differences``, and the p-value of a mean of 0.

    Both by Student's t with n - 1 degrees of freedom, two-sided: mean ± t(level) * s / sqrt(n).
    """
    from scipy.stats import ttest_1samp

    if np.ptp(differences) <= ROUNDING * np.abs(differences).max():  # every seed says the same
        return 0.0, 0.0 if any(differences) else 1.0
    test: Any = ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(level)
    return float(interval.high - interval.low) / 2, float(test.pvalue)


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
