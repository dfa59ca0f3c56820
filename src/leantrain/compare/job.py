"""The trainings of a comparison: every method with every seed, and the controls that full training is cut to."""

from dataclasses import dataclass
from typing import Any

from leantrain.compare.config import CompareConfig
from leantrain.compare.results import FULL, LINE


@dataclass(frozen=True)
class Job:
    """One training to do: a method with a seed, or with ``control_for`` full training cut to a method's budget.

    ``budget`` is what it is cut to, time or work. With ``share``, of full training's epochs, it is a point of the line
    that serves as control for every method.
    """

    method: str
    seed: int
    control_for: str | None = None
    budget: str | None = None
    share: float | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        if self.share is not None:
            return f"{self.method}-seed{self.seed}-share-{self.share:g}"
        control = f"-control-for-{self.control_for}" if self.control_for else ""
        return f"{self.method}-seed{self.seed}{control}" + ("-by-work" if self.budget == "work" else "")

    @property
    def head(self) -> dict[str, Any]:
        """What stands before each of its rows in ``metrics.parquet``."""
        return {"run": self.name, "method": self.method, "control_for": self.control_for, "seed": self.seed}


def jobs(config: CompareConfig) -> tuple[list[Job], list[Job]]:
    """The methods' runs and the controls' runs, in the order in which they are done: seed by seed.

    A control by work is left out later where it would be the one by time; where controls are read off a line, a method
    outside of it still gets one of its own.
    """
    runs = [Job(method, seed) for seed in config.seeds for method in config.methods]
    if config.control == "line":
        return runs, [Job(FULL, seed, LINE, share=part) for seed in config.seeds for part in config.line]
    judged = [job for job in runs if job.method != FULL]
    return runs, [Job(FULL, job.seed, job.method, budget) for job in judged for budget in config.controls]
