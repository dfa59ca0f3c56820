"""The view: which part of a sample is processed, as a plan says which samples are. It may change within an epoch."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from leantrain.utils import nested_batch, validation


@dataclass(frozen=True, slots=True)
class View:
    """Images of another side, in S stages over one epoch.

    Args:
        ends: (S,) ascending, share of the epoch that is done at the end of each stage; the last is 1.
        sides: (S,) share of the full side of the images of each stage, in (0, 1].
        progress: (S + 1,) share of the training's work that is done at the epoch's start and at the end of each stage.
        stride: sides in pixels are rounded to a multiple of it.

    Raises:
        ValueError, TypeError: numbers that cannot be those.
    """

    ends: Sequence[float]
    sides: Sequence[float]
    progress: Sequence[float]
    stride: int = 1

    def __post_init__(self) -> None:
        ends, sides, progress = (list(map(float, values)) for values in (self.ends, self.sides, self.progress))
        validation.integer("stride", self.stride, least=1)
        if not (
            0 < len(ends) == len(sides) == len(progress) - 1
            and all(before < after for before, after in pairwise([0.0, *ends]))
            and ends[-1] == 1
            and all(0 < side <= 1 for side in sides)
            and all(before <= after for before, after in pairwise([0.0, *progress, 1.0]))
        ):
            raise ValueError(f"ends={ends}, sides={sides} and progress={progress} are no stages of an epoch.")

    def done(self, position: float) -> float:
        """Share of the training's work that is done when ``position`` of the epoch is."""
        stage = self._stage(position)
        start = self.ends[stage - 1] if stage else 0.0
        before, after = self.progress[stage : stage + 2]
        return before + (after - before) * (position - start) / (self.ends[stage] - start)

    def of(self, batch: Any, position: float) -> tuple[Any, float]:
        """``batch`` as it is seen at ``position`` of the epoch, and the share of its pixels that are left.

        Raises:
            TypeError: there is no image in it, a (B, C, H, W) tensor.
        """
        before = nested_batch.pixels(batch)
        if not before:
            raise TypeError(
                "loader.view(x) resizes images, and found none, which are tensors of shape (B, C, H, W). Give it the "
                "batch, or what goes into the model."
            )
        made = nested_batch.resize(batch, self.sides[self._stage(position)], self.stride)
        return made, nested_batch.pixels(made) / before

    def _stage(self, position: float) -> int:
        return min(bisect_left(self.ends, position), len(self.ends) - 1)
