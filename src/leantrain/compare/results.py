"""The results of a comparison, ``results.json``: written and read here, whatever shows them.

Schema 1: ``environment``, ``config``, ``runs`` (``RunFacts`` each) and ``summary``, a row a method.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leantrain.train.facts import MOST, RunFacts
from leantrain.utils.atomic_write import write_json

SCHEMA = 1
FILE = "results.json"
FIRST = {"method", "seed", "control_for", "budget", "share"}  # of a run's facts, for who reads the file
FULL, LINE = "full", "line"  # the baseline; in a run's ``control_for``: it serves every method
BEATS, NOISE, LOSES = "beats control", "within noise", "loses to control"  # verdicts
UNKNOWN = "one seed: noise unknown"


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a comparison, and the folder that they lie in. ``summary`` has each method's row by its name."""

    folder: Path
    environment: dict[str, Any]
    config: dict[str, Any]
    runs: tuple[RunFacts, ...]
    summary: dict[str, dict[str, Any]]

    def content(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            "schema": SCHEMA,
            "environment": self.environment,
            "config": self.config,
            "runs": [run.model_dump(include=FIRST) | run.model_dump() for run in self.runs],
            "summary": [*self.summary.values()],
        }

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_json(self.folder / FILE, self.content())

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """``full``, then as configured, then whatever else was run."""
        present = dict.fromkeys(run.method for run in self.runs if run.control_for is None)
        configured = self.config.get("methods")
        wanted = [name for name in configured if isinstance(name, str)] if isinstance(configured, list) else []
        return tuple(dict.fromkeys(name for name in (FULL, *wanted, *present) if name in present))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names by label; empty where the data has none."""
        names = self.environment.get("classes") or self.config.get("classes")
        return tuple(map(str, names)) if isinstance(names, list | tuple) else ()

    def of(self, method: str) -> list[RunFacts]:
        """The runs of ``method`` itself, one per seed, controls left out."""
        return [run for run in self.runs if run.method == method and run.control_for is None]

    def controls(self, method: str) -> list[RunFacts]:
        """The equal-time controls of ``method``, one per seed; none where they are read off ``line``."""
        return [run for run in self.runs if run.control_for == method and run.budget != "work"]

    def line(self) -> list[list[RunFacts]]:
        """The trainings off which controls are read, those of one length together, shortest first."""
        found: dict[float, list[RunFacts]] = {}
        for run in self.runs:
            if run.control_for == LINE:
                found.setdefault(run.epochs, []).append(run)
        return [found[epochs] for epochs in sorted(found)]

    def all_controls(self) -> list[list[RunFacts]]:
        """Those of ``line`` and of every method, each the seeds of one control."""
        return [runs for runs in (*self.line(), *map(self.controls, self.methods)) if runs]

    def value(self, method: str, key: str) -> float | None:
        """A number of the summary row of ``method``; None where it is null, absent or not finite."""
        value = self.summary.get(method, {}).get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
            return None
        return float(value)

    def verdict(self, method: str, key: str = "verdict") -> str | None:
        """What the summary says of ``method`` beside its control; None where it says nothing."""
        value = self.summary.get(method, {}).get(key)
        return value if isinstance(value, str) and value else None

    def class_name(self, label: int) -> str:
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"
