"""A wall clock that is set back while a run goes on: no negative seconds, checkpoints are made, the commands end well.

``perf_counter`` and ``monotonic`` never go back, says Python; nothing may measure with ``time.time``.
"""

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from commands import Command, command  # noqa: F401 - a fixture

from leantrain.checkpoint.manager import Checkpoints

HOUR = 3600.0


@pytest.fixture
def _backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading of the clock is an hour earlier than the one before."""
    clock, readings = time.time, count()
    monkeypatch.setattr(time, "time", lambda: clock() - HOUR * next(readings))


def seconds(facts: Any) -> list[float]:
    """All numbers under a name that speaks of time."""
    if isinstance(facts, list):
        return [value for item in facts for value in seconds(item)]
    if not isinstance(facts, dict):
        return []
    found = [value for name, value in facts.items() if name.endswith("seconds") and isinstance(value, float)]
    costs = [value for value in (facts.get("costs") or {}).values() if value is not None]
    return found + costs + [value for item in facts.values() for value in seconds(item)]


@pytest.mark.usefixtures("_backwards")
def test_a_training(command: Command, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    kept = []
    after_step = Checkpoints.after_step

    def after(self, state):
        self.seconds = 1e-6  # between two: the time must seem to pass
        before = self._kept
        after_step(self, state)
        kept.append(self._kept != before)

    monkeypatch.setattr(Checkpoints, "after_step", after)
    assert command("train", "--method", "stale-sb", "--out", tmp_path / "out") == (0, "")
    assert kept
    assert all(kept)
    found = seconds(json.loads((tmp_path / "out" / "run.json").read_text()))
    assert len(found) > 8
    assert min(found) >= 0


@pytest.mark.usefixtures("_backwards")
def test_a_comparison(command: Command, tmp_path: Path) -> None:  # noqa: F811
    words = ("compare", "--methods", "ids", "--epochs", 2, "--out", tmp_path / "out")
    assert command(*words) == (0, "")
    found = seconds(json.loads((tmp_path / "out" / "results.json").read_text()))
    assert len(found) > 8
    assert min(found) >= 0
