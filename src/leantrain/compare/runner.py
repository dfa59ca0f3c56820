"""A comparison: every method with every seed, then full training cut to the same time, or to the same work."""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leantrain.checkpoint.manager import Checkpoints
from leantrain.compare.config import CompareConfig
from leantrain.compare.controls import LINE, NEAR, on_line, share
from leantrain.compare.costs import modelled_seconds, pooled_costs
from leantrain.compare.environment import describe
from leantrain.compare.store import Store
from leantrain.compare.summary import rarest, summarise
from leantrain.data import ImageData, conditions
from leantrain.train import method_inputs
from leantrain.train.trainer import train
from leantrain.utils.atomic_write import occupied, write_json, write_whole

OnEpoch = Callable[["Job", float, float], None]  # job, its epochs, accuracy so far


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


@dataclass
class Finished:
    """What all finished runs left behind."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)


def jobs(config: CompareConfig) -> tuple[list[Job], list[Job]]:
    """The methods' runs and the controls' runs, in the order in which they are done: seed by seed.

    A control by work is left out later where it would be the one by time; where controls are read off a line, a method
    outside of it still gets one of its own.
    """
    runs = [Job(method, seed) for seed in config.seeds for method in config.methods]
    if config.control == "line":
        return runs, [Job("full", seed, LINE, share=part) for seed in config.seeds for part in config.line]
    judged = [job for job in runs if job.method != "full"]
    return runs, [Job("full", job.seed, job.method, budget) for job in judged for budget in config.controls]


def _own_controls(config: CompareConfig, measured: list[dict[str, Any]]) -> list[tuple[Job, float]]:
    """Each method's own control runs with their share of full training's epochs."""
    wanted = []
    for method in config.methods[1:]:  # the first is full training
        made: list[float] = []
        for budget in config.controls:
            part = share(method, measured, budget)
            line = config.line if config.control == "line" else ()
            if not on_line(part, line) and not any(abs(part - other) <= NEAR for other in made):
                made.append(part)
                wanted += [(Job("full", seed, method, budget), part) for seed in config.seeds]
    return sorted(wanted, key=lambda found: config.seeds.index(found[0].seed))


def compare(
    config: CompareConfig,
    data: ImageData,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Run what is missing and write ``results.json``, ``metrics.parquet`` and ``counts.parquet`` to ``out``.

    Args:
        config: what is compared.
        data: the data set that ``config.data`` names, as read or under ``config.condition`` already.
        out: folder of the comparison.
        resume: go on with an interrupted one; finished runs are not run again.
        overwrite: remove an earlier one first.
        on_epoch: called after each epoch, for progress bars.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: a setting, or a folder that holds something else; before any training starts.
    """
    method_inputs.check(config, config.methods, data)
    data = conditions.under(data, config.condition, config.condition_seed)
    with occupied(out):
        return _run(config, data, out, resume=resume, overwrite=overwrite, on_epoch=on_epoch)


def _run(
    config: CompareConfig, data: ImageData, out: Path, *, resume: bool, overwrite: bool, on_epoch: OnEpoch | None
) -> dict[str, Any]:
    store = Store(out, config, data.fingerprint, resume=resume, overwrite=overwrite)
    done = Finished()
    plain, controls = jobs(config)
    least = config.batch_size / len(data.targets)  # one step at least
    for job in plain:
        _do(job, config, data, store, done, float(config.epochs), on_epoch)
    measured = list(done.runs)
    line = [(job, job.share) for job in controls if job.share is not None]
    with _possible(out):
        own = _own_controls(config, measured)
    for job, part in [*line, *own]:
        _do(job, config, data, store, done, max(config.epochs * part, least), on_epoch)
    costs = pooled_costs(measured)
    rare = rarest(np.bincount(np.asarray(data.targets), minlength=len(data.classes)).tolist())
    for run in done.runs:
        run["steady_seconds"] = modelled_seconds(run, costs)
        run["rare_classes_accuracy"] = _mean_of(run.get("class_accuracy"), rare)
    with _possible(out):
        summary = summarise(done.runs, list(config.methods), config.controls)
    results = {
        "schema": 1,
        "environment": describe(config.device) | {"classes": list(data.classes)},
        "config": config.model_dump(mode="json"),
        "runs": done.runs,
        "summary": summary,
    }
    _write_parquet(out / "metrics.parquet", done.epochs)
    _write_parquet(out / "counts.parquet", done.counts)
    write_json(out / "results.json", results)
    return results


def _mean_of(by_class: list[float] | None, chosen: list[int]) -> float | None:
    """Mean accuracy on the ``chosen`` classes; None where there is none, or a file tells of other classes."""
    if not by_class or not chosen or max(chosen) >= len(by_class):
        return None
    return statistics.fmean(by_class[label] for label in chosen)


@contextlib.contextmanager
def _possible(out: Path) -> Iterator[None]:
    """ValueError where the figures of finished runs, each possible, make no sense together: no time, no samples."""
    try:
        yield
    except ZeroDivisionError as error:
        raise ValueError(
            f"{out / 'runs'} holds runs that took no time or used no samples ({error}). Remove them; --resume then "
            "runs them again."
        ) from error


def _do(
    job: Job,
    config: CompareConfig,
    data: ImageData,
    store: Store,
    done: Finished,
    epochs: float,
    on_epoch: OnEpoch | None,
) -> None:
    """Run ``job`` unless it is finished, and gather what it left."""
    found = store.load(job.name)
    if found and job.budget and abs(found[0]["epochs"] - epochs) > NEAR * epochs:
        found = None  # added seeds moved the method's time, and with it what the control is cut to
    if found is None:
        tell = (lambda row: on_epoch(job, epochs, row["accuracy"])) if on_epoch else None
        checkpoints = Checkpoints(store.checkpoints(job.name), config.checkpoint_seconds)
        result = train(config, data, job.method, job.seed, epochs=epochs, checkpoints=checkpoints, after_epoch=tell)
        store.save(job.name, result)
        checkpoints.finish()
        found = result.facts, result.epochs, {name: column.numpy() for name, column in result.samples.items()}
    elif on_epoch:
        on_epoch(job, 0.0, found[0]["accuracy"])  # nothing left to do
    facts, rows, samples = found
    for column in samples.values():
        if len(column) != len(data.targets):
            raise ValueError(
                f"{store.folder / 'runs' / job.name}.npy counts {len(column)} samples and the data set has "
                f"{len(data.targets)}. Remove it and the .json beside it; --resume then runs it again."
            )
    head = {"run": job.name, "method": job.method, "control_for": job.control_for, "seed": job.seed}
    whose = {name: head[name] for name in ("method", "control_for", "seed")}
    whose |= {"budget": job.budget, "share": job.share}
    done.runs.append(whose | facts | whose)  # a file does not decide whose run it is
    planned = {"planned": len(data.targets)}
    done.epochs += [head | planned | row | head for row in rows]
    if job.control_for is None and "trained" in samples:
        count = len(data.targets)
        done.counts.append(
            {
                "run": np.full(count, job.name, dtype=object),
                "method": np.full(count, job.method, dtype=object),
                "seed": np.full(count, job.seed),
                "index": np.arange(count),
                "label": data.targets.numpy(),
            }
            | samples
        )


def _write_parquet(path: Path, parts: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if parts and isinstance(next(iter(parts[0].values())), np.ndarray):
        tables = [pa.table({name: pa.array(part[name], from_pandas=True) for name in part}) for part in parts]
        table = pa.concat_tables(tables, promote_options="default")  # null: unknown, or nothing that this run has
    else:
        table = pa.Table.from_pylist(parts)
    write_whole(path, lambda place: pq.write_table(table, place, compression="zstd"))
