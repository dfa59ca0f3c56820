"""A comparison: every method with every seed, then for each the full training that takes the same time."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leantrain.compare.config import CompareConfig
from leantrain.compare.environment import describe
from leantrain.compare.store import Store
from leantrain.compare.summary import modelled_seconds, pooled_costs, summarise, time_ratio
from leantrain.data import ImageData
from leantrain.files import occupied, write_json, write_whole
from leantrain.train import provide
from leantrain.train.checkpoints import Checkpoints
from leantrain.train.trainer import train

OnEpoch = Callable[["Job", float, float], None]  # job, its epochs, accuracy so far


@dataclass(frozen=True)
class Job:
    """One training to do: a method with a seed, or with ``control_for`` the full training cut to a method's time."""

    method: str
    seed: int
    control_for: str | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.method}-seed{self.seed}" + (f"-control-for-{self.control_for}" if self.control_for else "")


@dataclass
class Finished:
    """What all finished runs left behind."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)


def jobs(config: CompareConfig) -> tuple[list[Job], list[Job]]:
    """The methods' runs and the controls' runs, in the order in which they are done: seed by seed."""
    runs = [Job(method, seed) for seed in config.seeds for method in config.methods]
    controls = [Job("full", job.seed, control_for=job.method) for job in runs if job.method != "full"]
    return runs, controls


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
        data: the data set that ``config.data`` names.
        out: folder of the comparison.
        resume: go on with an interrupted one; finished runs are not run again.
        overwrite: remove an earlier one first.
        on_epoch: called after each epoch, for progress bars.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: a setting, or a folder that holds something else; before any training starts.
    """
    for method in config.methods:
        provide.check(config, method, data)
    with occupied(out):
        return _run(config, data, out, resume=resume, overwrite=overwrite, on_epoch=on_epoch)


def _run(
    config: CompareConfig, data: ImageData, out: Path, *, resume: bool, overwrite: bool, on_epoch: OnEpoch | None
) -> dict[str, Any]:
    store = Store(out, config, data.fingerprint, resume=resume, overwrite=overwrite)
    done = Finished()
    plain, controls = jobs(config)
    for job in plain:
        _do(job, config, data, store, done, float(config.epochs), on_epoch)
    measured = list(done.runs)
    for job in controls:
        assert job.control_for is not None
        with _possible(out):
            epochs = config.epochs * time_ratio(job.control_for, measured)
        least = config.batch_size / len(data.targets)  # one step at least
        _do(job, config, data, store, done, max(epochs, least), on_epoch)
    costs = pooled_costs(measured)
    for run in done.runs:
        run["steady_seconds"] = modelled_seconds(run, costs)
    with _possible(out):
        summary = summarise(done.runs, list(config.methods))
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
    if (found := store.load(job.name)) is None:
        tell = (lambda row: on_epoch(job, epochs, row["accuracy"])) if on_epoch else None
        checkpoints = Checkpoints(store.checkpoints(job.name), config.checkpoint_seconds)
        result = train(config, data, job.method, job.seed, epochs=epochs, checkpoints=checkpoints, after_epoch=tell)
        store.save(job.name, result)
        checkpoints.finish()
        found = result.facts, result.epochs, result.trained.numpy()
    elif on_epoch:
        on_epoch(job, 0.0, found[0]["accuracy"])  # nothing left to do
    facts, rows, counts = found
    if counts is not None and len(counts) != len(data.targets):
        raise ValueError(
            f"{store.folder / 'runs' / job.name}.npy counts {len(counts)} samples and the data set has "
            f"{len(data.targets)}. Remove it and the .json beside it; --resume then runs it again."
        )
    head = {"run": job.name, "method": job.method, "control_for": job.control_for, "seed": job.seed}
    whose = {name: head[name] for name in ("method", "control_for", "seed")}
    done.runs.append(whose | facts | whose)  # a file does not decide whose run it is
    planned = {"planned": len(data.targets)}
    done.epochs += [head | planned | row | head for row in rows]
    if job.control_for is None and counts is not None:
        done.counts.append(
            {
                "run": np.full(len(counts), job.name, dtype=object),
                "method": np.full(len(counts), job.method, dtype=object),
                "seed": np.full(len(counts), job.seed),
                "index": np.arange(len(counts)),
                "label": data.targets.numpy(),
                "trained": counts,
            }
        )


def _write_parquet(path: Path, parts: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if parts and isinstance(next(iter(parts[0].values())), np.ndarray):
        table = pa.concat_tables([pa.table(part) for part in parts])
    else:
        table = pa.Table.from_pylist(parts)
    write_whole(path, lambda place: pq.write_table(table, place, compression="zstd"))
