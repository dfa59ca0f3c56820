"""A selector around another one."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.utils.memory import Part


@dataclass(eq=False)
class Around(Selector):
    """Passes everything on to ``selector``; a subclass overrides what it changes."""

    selector: Selector

    def __post_init__(self) -> None:
        who = type(self).__name__
        if not isinstance(self.selector, Selector):
            raise TypeError(f"{who} wraps a Selector such as InfoBatch(), not {type(self.selector).__name__}.")
        self.needs = self.selector.needs  # pyright: ignore[reportAttributeAccessIssue]
        self.refill = self.selector.refill
        self.scale_factor = self.selector.scale_factor
        self.scoring_batches = self.selector.scoring_batches

    def setup(self, run: Run) -> None:
        super().setup(run)
        self.selector.setup(run)

    def memory(self, run: Run) -> list[Part]:
        return self.selector.memory(run)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return self.selector.plan(epoch, pool)

    def loss_age(self, epoch: int) -> int | None:
        return self.selector.loss_age(epoch)

    def judges(self, epoch: int, number: int) -> bool:
        return self.selector.judges(epoch, number)

    def pass_over(self, epoch: int, number: int, indices: Tensor) -> None:
        self.selector.pass_over(epoch, number, indices)

    def select(self, batch: Batch) -> Tensor:
        return self.selector.select(batch)

    def end_epoch(self, epoch: int) -> None:
        self.selector.end_epoch(epoch)

    def settings(self) -> dict[str, Any]:
        return self.selector.settings()

    def report(self) -> dict[str, float]:
        return self.selector.report()

    def distances(self) -> Tensor | None:
        return self.selector.distances()

    def state_dict(self) -> dict[str, Any]:
        return {"selector": self.selector.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selector.load_state_dict(state["selector"])
