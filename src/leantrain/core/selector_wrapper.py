"""A selector around another one: the base of those that change what any method chose, or take note of it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Composite, Selector


@dataclass(eq=False)
class Around(Composite):
    """Passes everything on to ``selector``; a subclass overrides what it changes."""

    selector: Selector

    def __post_init__(self) -> None:
        who = type(self).__name__
        if not isinstance(self.selector, Selector):
            raise TypeError(f"{who} wraps a Selector such as InfoBatch(), not {type(self.selector).__name__}.")
        self._compose()

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return self.selector.plan(epoch, pool)

    def settings(self) -> dict[str, Any]:
        return self.selector.settings()
