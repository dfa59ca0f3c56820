"""What a loader did so far, in samples and seconds."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


def _latest() -> deque[float]:
    return deque(maxlen=4096)  # bounded: a long training must not grow


@dataclass(slots=True)
class Stats:
    """Counts and seconds of one ``Loader``.

    Attributes:
        loaded: samples read from the data set.
        scored: samples that had a forward pass without gradient.
        trained_at: samples that had a forward and a backward pass, by the share of their pixels that the view left.
        batches: training batches that were handed out.
        steps: those of which losses were told.
        skipped_steps: those without gradient because of a loss that was not finite; not among ``steps``.
        unreadable: reads that failed, whose samples were left out of their batches.
        plan_seconds, score_seconds, select_seconds: time spent planning epochs, scoring batches and deciding.
        fetch_cost, score_cost: the latest costs in seconds a sample of waiting for data and of scoring.
    """

    loaded: int = 0
    scored: int = 0
    trained_at: dict[float, int] = field(default_factory=dict)
    batches: int = 0
    steps: int = 0
    skipped_steps: int = 0
    unreadable: int = 0
    plan_seconds: float = 0.0
    score_seconds: float = 0.0
    select_seconds: float = 0.0
    fetch_cost: deque[float] = field(default_factory=_latest, repr=False)
    score_cost: deque[float] = field(default_factory=_latest, repr=False)

    def __str__(self) -> str:
        """A few lines for people."""
        return (
            f"{self.trained:,} samples trained on in {self.steps:,} steps; {self.scored:,} scored, {self.loaded:,} read"
            f"\nseconds: {self.plan_seconds:.1f} planning, {self.score_seconds:.1f} scoring, "
            f"{self.select_seconds:.1f} choosing"
            + (f"\n{self.unreadable:,} reads failed" if self.unreadable else "")
            + (f"\n{self.skipped_steps:,} steps skipped" if self.skipped_steps else "")
        )

    def state_dict(self) -> dict[str, Any]:
        """Counts and seconds; the latest costs are this process's own."""
        state = {name: getattr(self, name) for name in self.__slots__ if not name.endswith("_cost")}
        return state | {"trained_at": [*self.trained_at.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from ``state_dict``."""
        trained = {"trained_at": dict(state.get("trained_at") or [(1.0, state.get("trained", 0))])}  # an older one
        for name in self.state_dict():
            setattr(self, name, (state | trained).get(name, getattr(self, name)))  # an older state may lack one

    @property
    def trained(self) -> int:
        """Samples that had a forward and a backward pass."""
        return sum(self.trained_at.values())

    @property
    def work(self) -> float:
        """The same in samples of full size: a quarter of the pixels is a quarter of a sample."""
        return sum(pixels * samples for pixels, samples in self.trained_at.items())

    @property
    def selection_seconds(self) -> float:
        """Time spent planning, scoring and deciding."""
        return self.plan_seconds + self.score_seconds + self.select_seconds
