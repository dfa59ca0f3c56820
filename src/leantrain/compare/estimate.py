"""What each method of a comparison will cost, from about a minute on this machine. B = samples of a batch."""

import statistics
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from leantrain.compare.config import CompareConfig
from leantrain.core.inputs import Input
from leantrain.core.selector import Selector
from leantrain.data import ImageData, conditions
from leantrain.estimation.dry_run import Priced, Prices, Rehearsal, Stage
from leantrain.estimation.forecast import Costs, Estimate
from leantrain.estimation.measure import SCORED, TRAINING, WARM, fetching, now, predict, rehearsal, shape
from leantrain.rng import generator
from leantrain.train.config import TrainConfig
from leantrain.train.method_inputs import Made, build, check
from leantrain.train.session import Session
from leantrain.utils import validation

SAMPLES = 64  # of a pass that is timed


def estimate(config: CompareConfig, data: ImageData, seconds: float = 60.0) -> Estimate:
    """Predict the boosts that ``compare`` would find, with its first seed; see ``leantrain.estimate``.

    Here the short training is that of ``compare``, with its optimizer and augmentation and its schedule compressed.

    Raises:
        ValueError: a setting, as ``compare`` would refuse it.
        FloatingPointError: the short training diverged.
    """
    seconds = validation.positive("seconds", seconds)
    data = conditions.under(data, config.condition, config.condition_seed)
    chosen = [method for method in config.methods if method != "full"]
    check(config, chosen, data)
    size, seed = len(data.targets), config.seeds[0]
    warm = _costs(config, data, _short(config, data, seed, min(size, WARM * config.batch_size), 1)[0])
    spent = warm.fetch + warm.step + warm.score / SCORED
    samples, passes = shape(seconds * TRAINING / spent, size, config.batch_size, config.epochs)
    session, losses = _short(config, data, seed, samples, passes)
    stage = Stage(
        size=size,
        batch_size=config.batch_size,
        drop_last=False,
        epochs=float(config.epochs),
        targets=data.targets,
        seed=seed,
        rehearsal=losses,
        prices=Prices(0, 0),
        most=1,
    )
    selectors = {method: _selector(config, data, method, seed) for method in chosen}
    return predict(stage, _costs(config, data, session), selectors, (samples, passes), seconds)


class _Watched(Selector):
    """Full training that scores some of its batches, so that the cost of it shows."""

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    def loss_age(self, epoch: int) -> int | None:
        return 1

    def judges(self, epoch: int, number: int) -> bool:
        return number % SCORED == 0


def _short(config: TrainConfig, data: ImageData, seed: int, samples: int, epochs: int) -> tuple[Session, Rehearsal]:
    """A training on ``samples`` random samples: its session, and the losses of each epoch."""
    rows = torch.randperm(len(data.targets), generator=generator(seed, 0, "estimate, rehearsed"))[:samples]
    session, told = Session(config, data, seed, rows), []
    for _ in session.fit(_Watched(), epochs):
        ledger = session.loader.ledger
        told.append((ledger.loss.clone(), ledger.correct.clone(), ledger.confidence.clone()))
    return session, rehearsal(*map(torch.stack, zip(*told, strict=True)))


def _costs(config: TrainConfig, data: ImageData, session: Session) -> Costs:
    stats, overlap = session.loader.stats, config.workers > 0
    step = statistics.median(session.clock.steps)
    parts = _parts(session)
    return Costs(
        fetch=fetching(session.batches, config.batch_size, session.seed)
        if overlap
        else statistics.median(stats.fetch_cost),
        score=statistics.median(stats.score_cost),
        overlap=overlap,
        **{name: step * part / sum(parts.values()) for name, part in parts.items()},
    )


def _parts(session: Session) -> dict[str, float]:
    """Seconds of the parts of a training step, on images as they are. Moves the model, which has served its turn."""
    times: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": []}
    device, rate = session.fabric.device, session.optimizer.param_groups
    for group in rate:
        group["lr"] = 0.0  # it is the time that counts; weights must not run away
    session.model.train()
    for number, batch in enumerate(session.batches):
        marks = [now(device)]
        scores, labels = session.forward(session.model, batch)
        loss = F.cross_entropy(scores, labels.to(device))
        marks.append(now(device))
        session.fabric.backward(loss)
        marks.append(now(device))
        session.optimizer.step()
        session.optimizer.zero_grad()
        marks.append(now(device))
        for name, start, end in zip(times, marks[:-1], marks[1:], strict=True):
            times[name].append(end - start)
        if number + 1 == WARM:
            break
    return {name: statistics.median(values) for name, values in times.items()}


def _selector(config: TrainConfig, data: ImageData, method: str, seed: int) -> Selector:
    """As the trainer makes it, but that nothing it is given runs a model."""
    session = Session(config, data, seed)

    def priced(wanted: Input, made: Made) -> Priced:
        price = None if made.trial is None else _price(session, made.trial)
        return Priced(made.width, made.classes, made.samples, price=price, epochs=made.epochs)

    return build(config, method, session, priced)


def _price(session: Session, trial: Callable[[DataLoader[Any]], Any]) -> float:
    """Seconds a sample of a pass that is not a forward pass of the model."""
    rows = min(SAMPLES, len(session.targets))
    few = DataLoader(Subset(session.data.train, range(rows)), batch_size=min(rows, session.config.batch_size))
    return _seconds(lambda: trial(few), session.fabric.device) / rows


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Of a call, after one that does not count."""
    work()
    start = now(device)
    work()
    return now(device) - start
