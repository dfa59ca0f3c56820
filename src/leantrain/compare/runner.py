"""A comparison: every method with every seed, then full training cut to the same time, or to the same work."""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from leantrain.checkpoint.manager import Checkpoints
from leantrain.compare.config import CompareConfig
from leantrain.compare.controls import NEAR, on_line, share
from leantrain.compare.costs import modelled_seconds, pooled_costs
from leantrain.compare.environment import describe
from leantrain.compare.job import Job, jobs
from leantrain.compare.results import FULL, Results
from leantrain.compare.store import Store, StoredRun
from leantrain.compare.summary import rarest, summarise
from leantrain.data import ImageData, conditions
from leantrain.train import method_inputs
from leantrain.train.facts import RunFacts
from leantrain.train.trainer import train
from leantrain.utils.atomic_write import occupied, write_whole

OnEpoch = Callable[[Job, float, float], None]  # job, its epochs, accuracy so far


def compare(
    config: CompareConfig,
    data: ImageData,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: OnEpoch | None = None,
) -> Results:
    """Run what is missing and write ``results.json``, ``metrics.parquet`` and ``counts.parquet`` to ``out``.

    Args:
        config: what is compared.
        data: the data set that ``config.data`` names, as read or under ``config.condition`` already.
        out: folder of the comparison.
        resume: go on with an interrupted one; finished runs are not run again.
        overwrite: remove an earlier one first.
        on_epoch: called after each epoch, for progress bars.

    Raises:
        ValueError: a setting, or a folder that holds something else; before any training starts.
    """
    method_inputs.check(config, config.methods, data)
    data = conditions.under(data, config.condition, config.condition_seed)
    with occupied(out):
        return _run(config, data, out, resume=resume, overwrite=overwrite, on_epoch=on_epoch)


def _run(
    config: CompareConfig, data: ImageData, out: Path, *, resume: bool, overwrite: bool, on_epoch: OnEpoch | None
) -> Results:
    store = Store(out, config, data.fingerprint, resume=resume, overwrite=overwrite)
    done: dict[Job, StoredRun] = {}
    plain, controls = jobs(config)
    for job in plain:
        done[job] = _finished(job, config, data, store, float(config.epochs), on_epoch)
    measured = [run.facts for run in done.values()]
    line = [(job, job.share) for job in controls if job.share is not None]
    with _possible(out):
        own = _own_controls(config, measured)
    least = config.batch_size / len(data.targets)  # one step at least
    for job, part in [*line, *own]:
        done[job] = _finished(job, config, data, store, max(config.epochs * part, least), on_epoch)
    costs = pooled_costs(measured)
    rare = rarest(np.bincount(np.asarray(data.targets), minlength=len(data.classes)).tolist())
    runs = [_judged(run.facts, costs, rare) for run in done.values()]
    with _possible(out):
        summary = summarise(runs, list(config.methods), config.controls)
    _write_metrics(out / "metrics.parquet", done, data)
    _write_counts(out / "counts.parquet", done, data)
    results = Results(
        folder=out,
        environment=describe(config.device) | {"classes": list(data.classes)},
        config=config.model_dump(mode="json"),
        runs=tuple(runs),
        summary={row["method"]: row for row in summary},
    )
    results.write()
    return results


def _own_controls(config: CompareConfig, measured: list[RunFacts]) -> list[tuple[Job, float]]:
    """Each method's own control runs with their share of full training's epochs."""
    wanted = []
    for method in config.methods[1:]:  # the first is full training
        shares: list[float] = []
        for budget in config.controls:
            part = share(method, measured, budget)
            line = config.line if config.control == "line" else ()
            if not on_line(part, line) and not any(abs(part - other) <= NEAR for other in shares):
                shares.append(part)
                wanted += [(Job(FULL, seed, method, budget), part) for seed in config.seeds]
    return sorted(wanted, key=lambda control: config.seeds.index(control[0].seed))


def _judged(run: RunFacts, costs: dict[str, float], rare: list[int]) -> RunFacts:
    """``run`` with what only all runs and the data set together tell."""
    accuracies = run.class_accuracy or []
    told = rare and max(rare) < len(accuracies)  # a file may tell of other classes
    return run.model_copy(
        update={
            "steady_seconds": modelled_seconds(run, costs),
            "rare_classes_accuracy": statistics.fmean(accuracies[label] for label in rare) if told else None,
        }
    )


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


def _finished(
    job: Job, config: CompareConfig, data: ImageData, store: Store, epochs: float, on_epoch: OnEpoch | None
) -> StoredRun:
    """What ``job`` left; run now unless it was finished before."""
    found = store.load(job)
    if found and job.budget and abs(found.facts.epochs - epochs) > NEAR * epochs:
        found = None  # added seeds moved the method's time, and with it what the control is cut to
    if found is None:
        tell = (lambda row: on_epoch(job, epochs, row["accuracy"])) if on_epoch else None
        checkpoints = Checkpoints(store.checkpoints(job), config.checkpoint_seconds)
        result = train(config, data, job.method, job.seed, epochs=epochs, checkpoints=checkpoints, after_epoch=tell)
        found = store.save(job, result)
        checkpoints.finish()
    elif on_epoch:
        on_epoch(job, 0.0, found.facts.accuracy)  # nothing left to do
    for column in found.samples.values():
        if len(column) != len(data.targets):
            raise ValueError(
                f"{store.folder / 'runs' / job.name}.npy counts {len(column)} samples and the data set has "
                f"{len(data.targets)}. Remove it and the .json beside it; --resume then runs it again."
            )
    return found


def _write_metrics(path: Path, done: dict[Job, StoredRun], data: ImageData) -> None:
    """A row an epoch of each run."""
    planned = {"planned": len(data.targets)}
    _write(
        path, pa.Table.from_pylist([job.head | planned | row | job.head for job in done for row in done[job].epochs])
    )


def _write_counts(path: Path, done: dict[Job, StoredRun], data: ImageData) -> None:
    """A row a sample of each method's run."""
    count, tables = len(data.targets), []
    for job, run in done.items():
        if job.control_for is None and "trained" in run.samples:
            same = {"run": job.name, "method": job.method, "seed": job.seed}
            columns = {name: pa.repeat(value, count) for name, value in same.items()}
            columns |= {"index": np.arange(count), "label": data.targets.numpy()}
            # null: unknown, or nothing that this run has
            columns |= {name: pa.array(values, from_pandas=True) for name, values in run.samples.items()}
            tables.append(pa.table(columns))
    _write(path, pa.concat_tables(tables, promote_options="default") if tables else pa.table({}))


def _write(path: Path, table: pa.Table) -> None:
    write_whole(path, lambda place: pq.write_table(table, place, compression="zstd"))
