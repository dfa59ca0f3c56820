"""The runs of a results folder as typed values. E: recorded epochs of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leantrain.report.files import AGAIN, read_json

SCHEMA = 1
FULL, LINE = "full", "line"
MOST = 1e15  # beyond it, nothing here is a time, a count or a share, and sums of it would overflow
MOST_METHODS, MOST_RUNS = 200, 10_000  # that a page can show


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training. `accuracy` is a share (0..1); `epochs` may be fractional (a control).

    Training seconds, those of the trajectory included, are what the run takes at the median costs of a step, where the
    file says so (`steady_seconds`): other work on the machine then does not bend the curves. Else they are the clock's.
    """

    method: str
    seed: int
    control_for: str | None
    budget: str  # what a control is cut to: time or work
    epochs: float
    accuracy: float
    train_seconds: float
    preprocess_seconds: float
    selection_seconds: float
    settings: dict[str, Any]
    events: dict[str, float]  # what the method counted, such as batches without a candidate
    trajectory: np.ndarray  # (E, 3) float64: epoch, training seconds so far, accuracy 0..1
    class_accuracy: tuple[float, ...] = ()  # (C,) 0..1, by label; empty where the file does not tell


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder. `methods` has ``full`` first, then the order of the configuration."""

    folder: Path
    environment: dict[str, Any]
    config: dict[str, Any]
    runs: tuple[Run, ...]
    summary: dict[str, dict[str, Any]]  # method -> its row
    methods: tuple[str, ...]
    classes: tuple[str, ...]  # empty where the data has none

    def of(self, method: str) -> list[Run]:
        """The runs of `method` itself, one per seed, controls left out."""
        return [run for run in self.runs if run.method == method and run.control_for is None]

    def controls(self, method: str) -> list[Run]:
        """The equal-time controls of `method`, one per seed; none where they are read off `line`."""
        return [run for run in self.runs if run.control_for == method and run.budget == "time"]

    def line(self) -> list[list[Run]]:
        """The trainings off which controls are read, those of one length together, shortest first."""
        found: dict[float, list[Run]] = {}
        for run in self.runs:
            if run.control_for == LINE:
                found.setdefault(run.epochs, []).append(run)
        return [found[epochs] for epochs in sorted(found)]

    def value(self, method: str, key: str) -> float | None:
        """A number of the summary row of `method`; None where it is null, absent or not finite."""
        return number(self.summary.get(method, {}).get(key))

    def class_name(self, label: int) -> str:
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"


def number(value: Any) -> float | None:
    """`value` as a finite float, of at most `MOST` either side of 0; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        return None
    return float(value)


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); one value has no deviation."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def load(out: Path | str) -> Results:
    """Read ``results.json`` of the folder `out`.

    Raises FileNotFoundError where it is missing and ValueError where it is cut off, of another schema, or
    lacks runs; the message names the file and what to do.
    """
    path = Path(out) / "results.json"
    again = AGAIN.format(folder=path.parent) + "."
    data = read_json(path)
    given = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if not isinstance(data, dict) or given != SCHEMA:
        raise ValueError(f"{path} has schema {given!r}; this leantrain reads schema {SCHEMA}. {again}")
    entries = data.get("runs")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} holds no runs, so there is nothing to report. {again}")
    if len(entries) > MOST_RUNS:
        raise ValueError(f"{path} holds {len(entries):,} runs; a report can show {MOST_RUNS:,}. {again}")
    runs = tuple(_run(entry, position, path) for position, entry in enumerate(entries))
    if not any(run.method == FULL and run.control_for is None for run in runs):
        raise ValueError(f"{path} has no run of {FULL!r}, with which every method is compared. {again}")
    if (many := len({run.method for run in runs})) > MOST_METHODS:
        raise ValueError(f"{path} holds {many:,} methods; a report can show {MOST_METHODS}. {again}")
    summary = data.get("summary")
    if not isinstance(summary, list) or not all(isinstance(row, dict) and "method" in row for row in summary):
        raise ValueError(f"{path}: 'summary' must be a list of rows, each with a 'method'. {again}")
    config, environment = _mapping(data, "config", path), _mapping(data, "environment", path)
    names = environment.get("classes") or config.get("classes") or ()
    return Results(
        folder=path.parent,
        environment=environment,
        config=config,
        runs=runs,
        summary={str(row["method"]): row for row in summary},
        methods=_order(config, runs),
        classes=tuple(str(name) for name in names) if isinstance(names, list | tuple) else (),
    )


def _mapping(data: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {key!r} is a {type(value).__name__}, expected an object of names and values.")
    return value


def _run(entry: Any, position: int, path: Path) -> Run:
    """One entry of 'runs'. Raises ValueError naming the entry and the key that is missing or no number."""
    where = f"{path}: runs[{position}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise ValueError(f"{where} must be an object with a 'method' name. {AGAIN.format(folder=path.parent)}.")

    def need(key: str, least: float = 0.0, most: float = MOST) -> float:
        value = number(entry.get(key))
        if value is None or not least <= value <= most:
            raise ValueError(
                f"{where} ({entry['method']}): {key!r} is {entry.get(key)!r}, expected a finite number from "
                f"{least:g} to {most:g}. "
                f"{AGAIN.format(folder=path.parent)}."
            )
        return value

    track = entry.get("trajectory")
    points = [
        [number(point.get(key)) for key in ("epoch", "train_seconds", "accuracy")]
        for point in (track if isinstance(track, list) else ())
        if isinstance(point, dict)
    ]
    settings, events = entry.get("settings"), entry.get("events")
    clock = need("train_seconds")
    steady = number(entry.get("steady_seconds")) or clock
    trajectory = np.array([p for p in points if None not in p], dtype=np.float64).reshape(-1, 3)
    trajectory[:, 1] *= steady / clock if clock else 1.0
    return Run(
        method=entry["method"],
        seed=int(need("seed")),
        control_for=entry.get("control_for"),
        budget=entry.get("budget") or "time",
        epochs=need("epochs", least=1e-9),
        accuracy=need("accuracy", most=1.0),
        train_seconds=steady,
        preprocess_seconds=number(entry.get("preprocess_seconds")) or 0.0,
        selection_seconds=number(entry.get("selection_seconds")) or 0.0,
        settings=settings if isinstance(settings, dict) else {},
        events={name: count for name, v in events.items() if (count := number(v))} if isinstance(events, dict) else {},
        trajectory=trajectory,
        class_accuracy=_numbers(entry.get("class_accuracy")),
    )


def _numbers(values: Any) -> tuple[float, ...]:
    """A list of finite numbers, or nothing."""
    found = [number(value) for value in values] if isinstance(values, list) else []
    return () if None in found else tuple(value for value in found if value is not None)


def _order(config: dict[str, Any], runs: tuple[Run, ...]) -> tuple[str, ...]:
    """Method names: full, then as configured, then whatever else was run."""
    present = dict.fromkeys(run.method for run in runs if run.control_for is None)
    configured = config.get("methods")
    wanted = [name for name in configured if isinstance(name, str)] if isinstance(configured, list) else []
    return tuple(dict.fromkeys(name for name in (FULL, *wanted, *present) if name in present))
