"""InputSize: smaller inputs first, in stages of equal work. S = stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from leantrain.core.view import View
from leantrain.utils.validation import Count


@dataclass(kw_only=True, eq=False)
class InputSize(Selector):
    """Trains on every sample, on images of half the side first, then of three quarters, then whole.

    Each stage is the same share of the training's work, where a sample of side s costs s^2: so the first takes most of
    the epochs. Progress, and with it the learning rate, follows the work. The loop asks for the images:
    ``x = loader.view(x)`` before ``model(x)``.

    Args:
        sides: (S,) share of the full side in each stage, in (0, 1]; the last is 1, since tests see whole images.
        stride: sides in pixels are rounded to a multiple of it. Patches of a ViT and the total stride of a network
            must divide it, where they need that.

    Cost: S / sum(1 / sides^2) of the pixels of full training; with the defaults 0.44. Resizing and loading stay what
    they are. Needs the length of the training, and losses, since the loop has to come back to the loader.

    Source: Howard, fast.ai's DAWNBench entry, 2018 (progressive resizing); Tan and Le, "EfficientNetV2", ICML 2021,
    arXiv 2104.00298; Wang et al., "EfficientTrain++", TPAMI 2024, arXiv 2405.08768. Stages of equal work are ours.

    Differences: on the card, ``docs/methods/input-size.md``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss", "epochs"})

    sides: Sequence[float] = (0.5, 0.75, 1.0)
    stride: Count = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = self.sides
        if isinstance(sides, str) or not isinstance(sides, Sequence) or not sides:
            raise TypeError(f"sides={sides!r} must be a list of shares of the full side, such as [0.5, 0.75, 1].")
        if not all(isinstance(side, int | float) and 0 < side <= 1 for side in sides) or sides[-1] != 1:
            raise ValueError(f"sides={sides!r} must be shares of the full side in (0, 1], the last of them 1.")
        if any(before >= after for before, after in pairwise(sides)):
            raise ValueError(f"sides={sides!r} must ascend.")

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        ends = stage_ends(self.sides)
        epochs = self.run.need_epochs("InputSize")
        start, end = epoch / epochs, min(1.0, (epoch + 1) / epochs)  # of this epoch, as shares of the training
        if start >= 1:  # past the end
            return Plan(pool, view=View([1.0], self.sides[-1:], [1.0, 1.0], self.stride))
        within = [k for k in range(len(ends)) if ends[k] > start and (k == 0 or ends[k - 1] < end)]
        marks = [min(float(ends[k]), end) for k in within]
        work = np.interp([start, *marks], [0.0, *ends], np.linspace(0, 1, len(ends) + 1))
        shares = [(mark - start) / (end - start) for mark in marks[:-1]] + [1.0]
        return Plan(pool, view=View(shares, [self.sides[k] for k in within], work.tolist(), self.stride))


def stage_ends(sides: Sequence[float]) -> np.ndarray:
    """(S,) float64, the share of the epochs that is done at the end of each stage: a stage of side s takes 1 / s^2."""
    ends = np.cumsum(1 / np.square(np.asarray(sides, dtype=np.float64)))
    return ends / ends[-1]
