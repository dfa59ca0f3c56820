"""Auto: the methods that are to pay, each where the data call for it. N = size of the data set."""

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Composite, Selector
from leantrain.methods.class_cap import ClassCap
from leantrain.methods.distinct import Distinct
from leantrain.methods.input_size import InputSize
from leantrain.methods.label_guard import LabelGuard
from leantrain.utils.validation import CountOrZero

LEAST_SIDE = 64  # of images, in pixels: the time of a step on smaller ones no longer goes with their pixels


@dataclass(kw_only=True, eq=False)
class Auto(Composite):
    """One of each exact repeat, no class too often, wrong labels left out, smaller inputs first: where each applies.

    ``Distinct() | ClassCap() | LabelGuard() | InputSize()``, without what the run leaves no use for: the cap unless the
    goal is "balanced", cap and guard where labels are unknown, smaller inputs below 64 pixels. What is left looks at
    the data itself, and does nothing where they do not call for it. ``notes`` tells what was found.

    Args:
        side: of the images in pixels, for a loop that asks for ``loader.view(x)``; 0 leaves their size alone. A trainer
            gives it.

    Cost: a hash of what is stored, once; the probes of the guard.

    Source: none, this is ours.
    """

    inputs: ClassVar = {"side": Input("side")}

    side: CountOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choose(labels=True, cap=False)  # what it needs; the cap joins where the goal asks for it

    def setup(self, run: Run) -> None:
        self._choose(labels=run.targets is not None, cap=run.goal == "balanced")
        super().setup(run)

    def _choose(self, labels: bool, cap: bool) -> None:
        chosen: list[Selector] = [Distinct(strict=False)]
        if labels:
            chosen += [*([ClassCap()] if cap else []), LabelGuard()]
        if self.side >= LEAST_SIDE:
            chosen.append(InputSize())
        self.chosen = reduce(operator.or_, chosen)
        self._labels = labels
        self._compose()

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return self.chosen.plan(epoch, pool)

    def settings(self) -> dict[str, Any]:
        return self.chosen.settings()

    def notes(self) -> list[str]:
        left_out = []
        if not self._labels:
            left_out.append("Auto: no labels are known, so classes and wrong labels are not looked at.")
        elif self.run.goal is None:
            left_out.append('Auto: classes stay as they are; where each counts the same, say so: goal="balanced".')
        if not self.side:
            left_out.append(
                "Auto: images keep their size: the model takes no other, or nobody said that there are any. A loop "
                "that asks for loader.view(x) says so: Auto(side=224)."
            )
        elif self.side < LEAST_SIDE:
            left_out.append(f"Auto: images of {self.side} pixels keep their size: they are below {LEAST_SIDE}.")
        return super().notes() + left_out
