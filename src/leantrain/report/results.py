"""Read ``results.json`` for a page: what it cannot do without is refused by name, what is odd elsewhere is left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from leantrain.compare.results import FILE, FULL, SCHEMA, Results
from leantrain.report.files import AGAIN, read_json
from leantrain.train.facts import RunFacts, first_error

MOST_METHODS, MOST_RUNS = 200, 10_000  # that a page can show


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); one value has no deviation."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def load(out: Path | str) -> Results:
    """Read ``results.json`` of the folder `out`.

    Raises FileNotFoundError where it is missing and ValueError where it is cut off, of another schema, or
    lacks runs; the message names the file and what to do.
    """
    path = Path(out) / FILE
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
    summary = data.get("summary")
    if not isinstance(summary, list) or not all(isinstance(row, dict) and "method" in row for row in summary):
        raise ValueError(f"{path}: 'summary' must be a list of rows, each with a 'method'. {again}")
    results = Results(
        folder=path.parent,
        environment=_mapping(data, "environment", path),
        config=_mapping(data, "config", path),
        runs=tuple(_run(entry, f"{path}: runs[{position}]", again) for position, entry in enumerate(entries)),
        summary={str(row["method"]): row for row in summary},
    )
    if not results.of(FULL):
        raise ValueError(f"{path} has no run of {FULL!r}, with which every method is compared. {again}")
    if (many := len({run.method for run in results.runs})) > MOST_METHODS:
        raise ValueError(f"{path} holds {many:,} methods; a report can show {MOST_METHODS}. {again}")
    return results


def _mapping(data: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {key!r} is a {type(value).__name__}, expected an object of names and values.")
    return value


def _run(entry: Any, where: str, again: str) -> RunFacts:
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise ValueError(f"{where} must be an object with a 'method' name. {again}")
    try:
        return RunFacts.tolerant(entry)
    except ValidationError as error:
        raise ValueError(f"{where} ({entry['method']}): {first_error(error)}. {again}") from None
