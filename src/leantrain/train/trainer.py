"""The reference trainer: image classification with any method, timed. B = samples of a batch, N = of the data set."""

import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from leantrain.checkpoint.manager import Checkpoints
from leantrain.core.selector import Selector
from leantrain.data import ImageData, conditions
from leantrain.data.unreadable_images import with_readable_test
from leantrain.replay.record_replay import Record
from leantrain.tasks.image_classification.evaluate import accuracy
from leantrain.train.config import REMEDIES, TrainConfig, with_defaults
from leantrain.train.device_cache import in_words
from leantrain.train.facts import Aside, Costs, Point, Sized, TrainFacts
from leantrain.train.method_inputs import build, held
from leantrain.train.session import Session
from leantrain.utils.memory import Part


@dataclass
class RunResult:
    """One finished training.

    Attributes:
        facts: what ``run.json`` and ``results.json`` hold of it.
        epochs: one dict an epoch, the rows of ``metrics.parquet``.
        samples: what became of each sample, (N,) each: ``trained``, how often it was trained on, ``loss``, the last one
            seen (NaN before), and where the method ranks by it ``distance`` (``Selector.distances``).
        model: the trained model.
    """

    facts: TrainFacts
    epochs: list[dict[str, Any]]
    samples: dict[str, Tensor]
    model: nn.Module

    @property
    def trained(self) -> Tensor:
        """(N,) int32, how often each sample was trained on."""
        return self.samples["trained"]


def train(
    config: TrainConfig,
    data: ImageData,
    method: str,
    seed: int,
    *,
    epochs: float | None = None,
    record: Path | None = None,
    evaluate: bool = True,
    checkpoints: Checkpoints | None = None,
    before_start: Callable[[list[Part]], None] | None = None,
    after_epoch: Callable[[dict[str, Any]], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> RunResult:
    """Train one model with one method. Under ``torchrun`` on all ranks: rank 0 evaluates and writes.

    Args:
        config: everything but method and seed.
        data: the data set that ``config.data`` names, as read or under ``config.condition`` already.
        method: a name of ``leantrain.methods``, or several joined by ``+``.
        seed: of initial weights, order, augmentation and selection.
        epochs: length of the training, by default ``config.epochs``; a control's may be a fraction.
        record: folder for a recording of what is selected, for ``Replay``.
        evaluate: whether the model is tested after each epoch. Without, accuracies are None.
        checkpoints: where the run is kept while it goes on, and where it goes on from if it was interrupted.
        before_start: called with the large things that the selection will hold.
        after_epoch: called with each epoch's row, for progress bars.
        note: called once with each of the method's ``notes``, after the first epoch in which it has it.

    Raises:
        ValueError: a setting does not fit the method or the data; before the training starts.
        FloatingPointError: the training diverged; names the samples. The newest checkpoint is from before.
    """
    epochs = config.epochs if epochs is None else epochs
    data = conditions.under(data, config.condition, config.condition_seed)
    if evaluate:
        data = with_readable_test(data, config.unreadable)
    session = Session(config, data, seed)
    selector = build(config, method, session)
    if before_start:
        before_start(held(selector, session))
    if record is not None:
        selector = Record(selector, record)
    rows: list[dict[str, Any]] = []
    per_class: list[float] = []
    noted: set[str] = set()
    resume = None
    ours = identity(config, data, method, seed, epochs)
    complete = partial(with_defaults, TrainConfig, here=ours)
    if checkpoints and (found := checkpoints.open(ours, session.ranks, complete)):
        rows, resume = found["rows"], found["session"]
        for row in rows:
            if after_epoch:
                after_epoch(row)

    def state() -> dict[str, Any]:
        if config.nonfinite != "keep":
            session.check_weights()
        return {"rows": rows, "session": session.state()}

    first = session.ranks.rank == 0
    save = checkpoints and (lambda: checkpoints.after_step(state))
    with checkpoints.at_work() if checkpoints else contextlib.nullcontext():
        for row in session.fit(selector, epochs, resume=resume, after_step=save or None):
            overall = None
            if evaluate and first and (config.evaluate == "epoch" or row["epoch"] + 1 >= epochs):
                model = session.model if session.ranks.count == 1 else session.module  # a pass through DDP is for all
                with session.fabric.autocast():
                    overall, per_class = accuracy(model, data, session.forward, config.batch_size)
            rows.append(row | {"accuracy": overall})
            if checkpoints:
                checkpoints.after_epoch(state)
            for said in selector.notes():
                if note and said not in noted:
                    noted.add(said)
                    note(said)
            if after_epoch:
                after_epoch(rows[-1])
    facts = _facts(session, selector, rows, epochs, per_class)
    ledger = session.loader.ledger
    samples = {"trained": ledger.trained, "loss": ledger.loss, "distance": selector.distances()}
    known = {name: column for name, column in samples.items() if column is not None}
    return RunResult(facts, rows, known, session.model)


def identity(config: TrainConfig, data: ImageData, method: str, seed: int, epochs: float) -> dict[str, Any]:
    """What two runs must agree on for one to go on from the other's checkpoint."""
    free = {"checkpoint_seconds", "workers", "resident", *REMEDIES}
    ours = config.model_dump(mode="json", include={*TrainConfig.model_fields} - free)
    return {"method": method, "seed": seed, "epochs": float(epochs), "data": data.fingerprint, "config": ours}


def _facts(
    session: Session, selector: Selector, rows: list[dict[str, Any]], epochs: float, per_class: list[float]
) -> TrainFacts:
    stats, clock = session.loader.stats, session.clock
    # The plan of the epoch that needed the pre-processing waited for it; that time is not the selection's.
    selection = stats.selection_seconds - clock.preprocess
    return TrainFacts(
        settings=selector.settings(),
        epochs=epochs,
        accuracy=rows[-1]["accuracy"],
        class_accuracy=per_class,
        train_seconds=clock.train,
        preprocess_seconds=clock.preprocess,
        selection_seconds=selection,
        total_seconds=clock.train + clock.preprocess,
        forward_samples=stats.trained + stats.scored + clock.forward,
        backward_samples=stats.trained + clock.backward,
        loaded_samples=stats.loaded + clock.forward,
        scored_samples=stats.scored,
        unreadable_samples=stats.unreadable,
        skipped_steps=stats.skipped_steps,
        aside=Aside(forward=clock.forward, backward=clock.backward),
        smaller=[
            Sized(pixels=pixels, samples=samples, step=_median(clock.steps[pixels]))
            for pixels, samples in sorted(stats.trained_at.items())
            if pixels < 1
        ],
        steps=stats.steps,
        ranks=session.ranks.count,
        images=in_words(session.place),
        trajectory=[Point.model_validate(row) for row in rows],
        events=selector.report(),
        costs=Costs(
            fetch=_median(stats.fetch_cost),
            score=_median(stats.score_cost),
            step=_median(clock.steps[1.0]),
            decide=selection - stats.score_seconds,
        ),
    )


def _median(values: Any) -> float | None:
    return statistics.median(values) if values else None
