"""Full training: the baseline that every method is held against."""

from dataclasses import dataclass

from leantrain.core.selector import Selector


@dataclass(kw_only=True, eq=False)
class Full(Selector):
    """Selects every sample with weight 1. ``wrap(loader, Full())`` is plain PyTorch, bit for bit.

    Cost: one forward and one backward pass a sample, 3 units.
    """
