"""A preset run whole: its recordings, its comparisons, its tables of fixed-accuracy speed-ups."""

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leantrain.compare.config import CompareConfig
from leantrain.compare.environment import describe
from leantrain.compare.experiment import OnEpoch, compare
from leantrain.compare.presets import Preset, Table
from leantrain.compare.store import read_json
from leantrain.compare.summary import modelled_seconds, of, pooled_costs
from leantrain.data import ImageData
from leantrain.files import occupied, write_json
from leantrain.train.trainer import train

Run = dict[str, Any]


def configs(preset: Preset, changes: dict[str, Any], out: Path) -> dict[str, CompareConfig]:
    """The comparisons of ``preset`` by name; ``changes`` are the user's own settings and win over the preset's base."""
    if "data" not in changes:
        raise ValueError(f"This preset is made for {preset.data}. Say where it is, for example --data parquet:DIR.")
    replays = {f"replay@{recording}": {"path": str(_place(out, recording))} for recording in preset.recordings}
    return {name: _config(preset, changes, own, replays) for name, own in preset.comparisons.items()}


def run_study(
    preset: Preset,
    changes: dict[str, Any],
    data: ImageData,
    out: Path,
    *,
    resume: bool = False,
    announce: Callable[[str, CompareConfig | None], OnEpoch | None] = lambda what, config: None,
) -> dict[str, Any]:
    """Run what is missing of ``preset`` and write ``study.json`` to ``out``; each comparison has a folder of its own.

    Args:
        preset: what to run.
        changes: settings that win over the preset's base: fewer images, epochs, another model.
        data: the data set.
        out: folder of the study.
        resume: go on with an interrupted one.
        announce: told of each recording and comparison before it starts; gives what is called after each epoch.

    Returns:
        The content of ``study.json``.
    """
    comparisons = configs(preset, changes, out)
    plain = _config(preset, changes, {}, {})
    cost, results = {}, {}
    with occupied(out):
        for name, (method, own) in preset.recordings.items():
            announce(f"recording {name}: {method}", None)
            cost[name] = _record(_config(preset, changes, own, {}), method, data, _place(out, name))
        for name, config in comparisons.items():
            on_epoch, begun = announce(name, config), (out / name).exists()
            results[name] = compare(config, data, out / name, resume=resume and begun, on_epoch=on_epoch)
    study = {
        "schema": 1,
        "source": preset.source,
        "environment": describe(plain.device),
        "config": plain.model_dump(mode="json"),
        "recording_seconds": cost,
        "tables": [_table(table, results) for table in preset.tables],
    }
    write_json(out / "study.json", study)
    return study


def speedups(runs: list[Run], methods: list[str]) -> tuple[float, dict[str, float], dict[str, float]]:
    """Fixed-accuracy speed-ups: time of full training to an accuracy over the time of each method to the same.

    The accuracy is the highest that full training, ``methods`` and their equal-time controls all reach with every
    seed. Times are modelled ones (``modelled_seconds``), pre-processing included; means over seeds.

    Returns:
        That accuracy, the speed-up of each method, and that of each method's control.
    """
    groups = {("full", None): of(runs, "full")}
    groups |= {(method, None): of(runs, method) for method in methods}
    groups |= {("full", method): of(runs, "full", method) for method in methods if method != "full"}
    best = [max(point["accuracy"] for point in run["trajectory"]) for group in groups.values() for run in group]
    level = min(best)
    costs = pooled_costs([run for run in runs if run["control_for"] is None])
    times = {key: statistics.fmean(_time_to(run, level, costs) for run in group) for key, group in groups.items()}
    full = times["full", None]
    ours = {method: full / times[method, None] for method in methods}
    controls = {method: full / times["full", method] for method in methods if method != "full"}
    return level, ours, controls


def _time_to(run: Run, level: float, costs: dict[str, float]) -> float:
    reached = next(point["train_seconds"] for point in run["trajectory"] if point["accuracy"] >= level)
    return modelled_seconds(run, costs) * reached / run["train_seconds"] + run["preprocess_seconds"]


def _table(table: Table, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A source's table with our figures, those of the controls, and the source's own."""
    rows: dict[str, dict[str, Any]] = {row: {} for row in table.rows}
    levels = {}
    for column, name in table.columns.items():
        level, ours, controls = speedups(results[name]["runs"], list(table.rows.values()))
        levels[column] = level
        summary = {row["method"]: row for row in results[name]["summary"]}
        for row, method in table.rows.items():
            rows[row][column] = {
                "speedup": ours[method],
                "control_speedup": controls[method],
                "accuracy": summary[method]["accuracy"],
                "verdict": summary[method]["verdict"],
                "printed": table.printed.get(row, {}).get(column),
            }
    return {"title": table.title, "accuracy": levels, "rows": rows}


def _record(config: CompareConfig, method: str, data: ImageData, place: Path) -> float:
    """Make a recording unless it is there already, whole; returns what it took in seconds."""
    done = place.with_suffix(".json")  # written last: its presence says finished
    wanted = {"method": method, "config": config.model_dump(mode="json"), "data": data.fingerprint}
    if done.exists():
        found = read_json(done)
        if found.get("made") == wanted:
            return float(found["seconds"])
        raise ValueError(f"{place} holds a recording of another configuration. Give another --out.")
    shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted
    result = train(config, data, method, config.seeds[0], record=place, evaluate=False)
    write_json(done, {"made": wanted, "seconds": result.facts["total_seconds"]})
    return result.facts["total_seconds"]


def _place(out: Path, recording: str) -> Path:
    return out / "recordings" / recording


def _config(preset: Preset, changes: dict[str, Any], own: dict[str, Any], settings: dict[str, Any]) -> CompareConfig:
    """The preset's base with the user's ``changes``, then what is the comparison's ``own``."""
    base, theirs = preset.base["settings"], changes.get("settings", {})
    merged = {name: base.get(name, {}) | theirs.get(name, {}) for name in {**base, **theirs}}
    return CompareConfig.model_validate(preset.base | changes | own | {"settings": merged | settings})
