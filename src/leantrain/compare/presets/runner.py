"""A preset run whole: its recordings, its comparisons, its tables of fixed-accuracy speed-ups."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leantrain import methods as registry
from leantrain.compare.config import CompareConfig
from leantrain.compare.costs import modelled_seconds, of, own, pooled_costs
from leantrain.compare.environment import describe
from leantrain.compare.presets import Preset, Table
from leantrain.compare.results import FULL, Results
from leantrain.compare.runner import OnEpoch, compare
from leantrain.compare.store import read_json
from leantrain.data import ImageData
from leantrain.replay import parquet_parts
from leantrain.train.config import with_defaults
from leantrain.train.facts import RunFacts
from leantrain.train.trainer import train
from leantrain.utils import validation
from leantrain.utils.atomic_write import occupied, write_json


def configs(
    preset: Preset, changes: dict[str, Any], out: Path, only: Sequence[str] | None = None
) -> dict[str, CompareConfig]:
    """The comparisons of ``preset`` by name, or ``only`` some of them, in that order.

    ``changes`` are the user's own settings and win over the preset's base.
    """
    if "data" not in preset.base | changes:
        get = f" To get it: {preset.get.strip()}" if preset.get else ""
        raise ValueError(
            f"This preset is made for {preset.data}. Say where it is, for example --data parquet:DIR.{get}"
        )
    names = [validation.one_of("comparison", name, preset.comparisons) for name in only or preset.comparisons]
    replays = {f"replay@{recording}": {"path": str(_place(out, recording))} for recording in preset.recordings}
    return {name: _config(preset, changes, preset.comparisons[name], replays) for name in names}


def run_study(
    preset: Preset,
    changes: dict[str, Any],
    load: Callable[[CompareConfig], ImageData],
    out: Path,
    *,
    only: Sequence[str] | None = None,
    resume: bool = False,
    announce: Callable[[str, CompareConfig | None], OnEpoch | None] = lambda what, config: None,
) -> dict[str, Any]:
    """Run what is missing of ``preset`` and write ``study.json`` to ``out``; each comparison has a folder of its own.

    The file is written anew after each comparison, with the tables whose comparisons are done.

    Args:
        preset: what to run.
        changes: settings that win over the preset's base: fewer images, epochs, another model.
        load: gives the data set of a configuration.
        out: folder of the study.
        only: names of the comparisons to run; all by default.
        resume: go on with an interrupted one.
        announce: told of each recording and comparison before it starts; gives what is called after each epoch.

    Returns:
        The content of ``study.json``.
    """
    comparisons = configs(preset, changes, out, only)
    plain = _config(preset, changes, {}, {})
    cost: dict[str, float] = {}
    results: dict[str, Results] = {}
    study: dict[str, Any] = {}
    with occupied(out):
        for name, (method, own) in preset.recordings.items():
            announce(f"recording {name}: {method}", None)
            config = _config(preset, changes, own, {})
            cost[name] = _record(config, method, load(config), _place(out, name))
        for name, config in comparisons.items():
            on_epoch, begun = announce(name, config), (out / name).exists()
            results[name] = compare(config, load(config), out / name, resume=resume and begun, on_epoch=on_epoch)
            study = {
                "schema": 1,
                "source": preset.source,
                "protocol": preset.protocol,
                "scale": plain.note,
                "environment": describe(plain.device),
                "config": plain.model_dump(mode="json"),
                "recording_seconds": cost,
                "tables": [made(table, results) for table in preset.tables if table.comparisons() <= {*results}],
                "matrix": _matrix(comparisons, results) if preset.matrix else None,
            }
            write_json(out / "study.json", study)
    return study


def speedups(runs: Sequence[RunFacts], methods: list[str]) -> tuple[float, dict[str, float], dict[str, float]]:
    """Fixed-accuracy speed-ups: time of full training to an accuracy over the time of each method to the same.

    The accuracy is the highest that full training, ``methods`` and their equal-time controls all reach with every
    seed. Times are modelled ones (``modelled_seconds``), pre-processing included; means over seeds.

    Returns:
        That accuracy, the speed-up of each method, and that of each method's control.
    """
    groups = {(FULL, None): of(runs, FULL)}
    groups |= {(method, None): of(runs, method) for method in methods}
    groups |= {(FULL, method): _cut(runs, method) for method in methods if method != FULL}
    groups = {key: group for key, group in groups.items() if group}  # a line of controls has none of a method's own
    level = min(max(point.accuracy or 0 for point in run.trajectory) for group in groups.values() for run in group)
    costs = pooled_costs(own(runs))
    times = {key: statistics.fmean(_time_to(run, level, costs) for run in group) for key, group in groups.items()}
    full = times[FULL, None]
    ours = {method: full / times[method, None] for method in methods}
    controls = {method: full / times[FULL, method] for method in methods if (FULL, method) in times}
    return level, ours, controls


def _cut(runs: Sequence[RunFacts], method: str) -> list[RunFacts]:
    return [run for run in of(runs, FULL, method) if run.budget != "work"]


def _time_to(run: RunFacts, level: float, costs: dict[str, float]) -> float:
    reached = next(point.train_seconds for point in run.trajectory if (point.accuracy or 0) >= level)
    return modelled_seconds(run, costs) * reached / run.train_seconds + run.preprocess_seconds


def _matrix(comparisons: dict[str, CompareConfig], results: dict[str, Results]) -> dict[str, Any]:
    """Each method's row of the summary under each comparison, with what tells the comparisons apart."""
    return {
        name: {
            "condition": comparisons[name].condition,
            "limit": comparisons[name].limit,
            "rows": [*found.summary.values()],
        }
        for name, found in results.items()
    }


def made(table: Table, results: dict[str, Results]) -> dict[str, Any]:
    """A source's table with our figures, those of the controls, and the source's own."""
    return _speedups(table, results) if table.comparison is None else _figures(table, results[table.comparison])


def _figures(table: Table, results: Results) -> dict[str, Any]:
    """Figures of the summary; a method that was left out, at a smaller scale, has no row."""
    rows = {}
    for heading, method in table.rows.items():
        name = "+".join(registry.parts(method))
        if name not in results.summary:
            continue
        row, printed = results.summary[name], table.printed.get(heading, {})
        rows[heading] = {
            "figures": {column: row[figure] for column, figure in table.figures.items()},
            "printed": {column: printed.get(column) for column in table.figures},
            "accuracy": row["accuracy"],
            "ahead": row["control_accuracy_pp_ahead"],
            "noise": row["noise_pp"],
            "verdict": row["verdict"],
            "stopped": {"ahead": row["stopped_accuracy_pp_ahead"], "noise": row["stopped_noise_pp"]},
        }
    return {"title": table.title, "figures": list(table.figures), "rows": rows}


def _speedups(table: Table, results: dict[str, Results]) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {row: {} for row in table.rows}
    levels = {}
    for column, name in table.columns.items():
        level, ours, controls = speedups(results[name].runs, list(table.rows.values()))
        levels[column] = level
        summary = results[name].summary
        for row, method in table.rows.items():
            rows[row][column] = {
                "speedup": ours[method],
                "control_speedup": controls.get(method),
                "accuracy": summary[method]["accuracy"],
                "verdict": summary[method]["verdict"],
                "printed": table.printed.get(row, {}).get(column),
            }
    return {"title": table.title, "accuracy": levels, "rows": rows}


def _record(config: CompareConfig, method: str, data: ImageData, place: Path) -> float:
    """Make a recording unless it is there already, whole; returns what it took in seconds."""
    done = place.with_suffix(".json")  # written first, as the mark of ours, and last, with the seconds
    config = config.model_copy(update={"seeds": config.seeds[:1], "note": None})  # what it is made with
    wanted = {"method": method, "config": config.model_dump(mode="json"), "data": data.fingerprint}
    if done.exists():
        found = read_json(done)
        if with_defaults(CompareConfig, found.get("made"), wanted) != wanted:
            raise ValueError(f"{place} holds a recording of another configuration. Give another --out.")
        if found["seconds"] is not None:
            return float(found["seconds"])
        for part in parquet_parts.parts(place).values():  # of a run that was interrupted
            part.unlink()
    elif place.exists() and any(place.iterdir()):
        raise ValueError(f"{place} is not empty, and this experiment did not fill it. Give another --out.")
    write_json(done, {"made": wanted, "seconds": None})
    result = train(config, data, method, config.seeds[0], record=place, evaluate=False)
    write_json(done, {"made": wanted, "seconds": result.facts.total_seconds})
    return result.facts.total_seconds


def _place(out: Path, recording: str) -> Path:
    return out / "recordings" / recording


def _config(preset: Preset, changes: dict[str, Any], own: dict[str, Any], settings: dict[str, Any]) -> CompareConfig:
    """The preset's base with the user's ``changes``, then what is the comparison's ``own``."""
    base, theirs = preset.base.get("settings", {}), changes.get("settings", {})
    merged = {name: base.get(name, {}) | theirs.get(name, {}) for name in {**base, **theirs}}
    if own.get("limit") and preset.base.get("limit") and changes.get("limit"):  # as many times the base's as before
        own = own | {"limit": round(own["limit"] * changes["limit"] / preset.base["limit"])}
    return CompareConfig.model_validate(preset.base | changes | own | {"settings": merged | settings})
