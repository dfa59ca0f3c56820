"""A short full training, timed part by part: what a sample costs here, and the losses it shows epoch by epoch.

N = size of the data set, m = samples of the short training, e = its epochs, B = samples of a batch.
"""

import contextlib
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from leantrain.loader.loader import Loader
from leantrain.rng import generator
from leantrain.scoring.scorer import Scores, check_losses
from leantrain.utils.dataloader_copy import copy_with

EPOCHS = 10  # of the short training at most; more would leave few samples for each
WARM, SCORED = 8, 4  # batches that are timed first; every which batch is scored too


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds a sample, each the median of what was measured.

    Args:
        fetch: reading it, while no model runs.
        score: a forward pass without gradient.
        forward, backward, optimizer: the parts of a training step.
        overlap: whether worker processes read while the model runs.
    """

    fetch: float
    score: float
    forward: float
    backward: float
    optimizer: float
    overlap: bool = False

    @property
    def step(self) -> float:
        """A training step."""
        return self.forward + self.backward + self.optimizer

    def read_and(self, work: float) -> float:
        """Reading a sample and ``work`` on it, one after the other or at once."""
        return max(self.fetch, work) if self.overlap else self.fetch + work


@dataclass(frozen=True)
class Rehearsal:
    """The losses of a short full training, epoch by epoch.

    Args:
        losses: (e, m) float32, each sample's in each epoch.
        correct: (e, m) bool, or None where the outputs are not class scores.
        confidence: (e, m) float32, likewise.
    """

    losses: Tensor
    correct: Tensor | None = None
    confidence: Tensor | None = None

    def at(self, epoch: int, epochs: float, size: int, seed: int) -> Scores:
        """What ``size`` samples would show in ``epoch`` of ``epochs``: at the same share of the training.

        Between two rehearsed epochs each sample takes either's facts, the nearer one's likelier: averages would be
        smoother than losses are. Samples beyond the m rehearsed repeat them.
        """
        last = len(self.losses) - 1
        place = min(max((epoch + 0.5) / epochs * (last + 1) - 0.5, 0.0), float(last))
        rng = generator(seed, epoch, "estimate")
        row = math.floor(place) + (torch.rand(size, generator=rng, dtype=torch.float32) < place % 1).long()
        sample = torch.arange(size) % self.losses.shape[1]
        return pick(Scores(self.losses, self.correct, self.confidence), (row, sample))


def pick(facts: Scores, where: Any) -> Scores:
    """Those facts, at an index of tensors."""
    return Scores(*(None if fact is None else fact[where] for fact in facts))  # pyright: ignore[reportArgumentType]


class Stopwatch:
    """Seconds a sample of scoring and of the parts of a training step; who trains calls it, see ``Session.fit``.

    Args:
        score: of a batch, as for ``wrap``.
        device: of the model.
    """

    def __init__(self, score: Callable[[Any], Scores], device: torch.device) -> None:
        self.score, self.device = score, device
        self.costs: dict[str, list[float]] = {"score": [], "forward": [], "backward": [], "optimizer": []}
        self._batches = itertools.count()

    def __call__(self, part: str, batch: Any = None, size: int = 0) -> None:
        """A step starts, with ``batch`` of ``size`` samples, or ``part`` of it has just ended."""
        now = synchronized_time(self.device)
        if part != "start":
            self.costs[part].append((now - self._since) / self._size)
        self._since = now
        if part == "start":
            self._size = size
            if next(self._batches) % SCORED == 0:
                scores = self.score(batch)
                check_losses(scores.losses, size, "loss_fn(outputs, targets)")
                scores.cpu()
                self("score")


# Trains on the samples (m,) for some epochs; gives after each epoch its loader and the stopwatch that it calls.
Training = Callable[[Tensor, int], Iterator[tuple[Loader, Stopwatch]]]


def rehearse(
    training: Training, loader: DataLoader[Any], epochs: float, seed: int, seconds: float
) -> tuple[Costs, Rehearsal]:
    """Train for about ``seconds``, first on a few batches, to learn how many samples that allows.

    Args:
        training: of the model that the estimate is for; starts afresh with each call.
        loader: of the training that is forecast, with a known batch size.
        epochs: length of the training that is forecast.
    """
    size, batch_size = sizes(loader)
    order = torch.randperm(size, generator=generator(seed, 0, "estimate, rehearsed"))
    with unmoved_randomness():
        torch.manual_seed(generator(seed, 0, "estimate").initial_seed() % 2**63)
        first, _ = _train(training, order[: WARM * batch_size], 1)
        budget = seconds / (first.fetch + first.step + first.score / SCORED)
        samples, passes = samples_and_epochs(budget, size, batch_size, epochs)
        costs, rehearsal = _train(training, order[:samples], passes)
        if loader.num_workers:
            costs = replace(costs, fetch=_fetch_by_workers(loader, seed), overlap=True)
    return costs, rehearsal


def samples_and_epochs(budget: float, size: int, batch_size: int, epochs: float) -> tuple[int, int]:
    """Samples m, whole batches where they are not all, and epochs e of a training that shows ``budget`` samples."""
    passes = max(1, min(int(epochs), EPOCHS))
    samples = max(2 * batch_size, int(budget / passes) // batch_size * batch_size)
    if samples < size:
        return samples, passes
    return size, max(1, min(int(epochs), int(budget / size)))


def sizes(loader: DataLoader[Any]) -> tuple[int, int]:
    """Of the data set and of a batch. ValueError where the latter is unknown."""
    batch_size = getattr(loader.batch_sampler, "batch_size", None)
    if batch_size is None:
        raise ValueError("estimate() needs to know the size of a batch: give the DataLoader a batch_size.")
    return len(loader.dataset), batch_size  # pyright: ignore[reportArgumentType]


def shuffled(loader: DataLoader[Any], rows: Tensor, seed: int) -> DataLoader[Any]:
    """A DataLoader like ``loader`` over ``rows`` in random order, with a generator of its own."""
    _, batch_size = sizes(loader)
    return copy_with(
        loader,
        dataset=Subset(loader.dataset, rows.tolist()),
        batch_size=batch_size,
        shuffle=True,
        drop_last=getattr(loader.batch_sampler, "drop_last", False) and len(rows) >= batch_size,
        generator=torch.Generator().manual_seed(seed),
    )


def synchronized_time(device: torch.device) -> float:
    """The clock's seconds, once ``device`` has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def unmoved_randomness() -> Iterator[None]:
    """Within, torch, numpy and ``random`` may be drawn from; afterwards their global states are what they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's data set may draw from it
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _train(training: Training, rows: Tensor, epochs: int) -> tuple[Costs, Rehearsal]:
    """Median costs and the losses of a training on ``rows``; samples never shown are left out."""
    told = [(loader, timed, loader.ledger.state_dict()) for loader, timed in training(rows, epochs)]
    loader, timed, _ = told[-1]
    medians = {part: statistics.median(costs) for part, costs in timed.costs.items()}
    facts = {name: torch.stack([ledger[name] for *_, ledger in told]) for name in ("loss", "correct", "confidence")}
    losses, correct, confidence = facts.values()
    shown = losses.isfinite().all(dim=0)
    known = bool((correct[:, shown] >= 0).all())
    classed = (correct[:, shown] == 1, confidence[:, shown]) if known else ()
    costs = Costs(fetch=statistics.median(loader.stats.fetch_cost), overlap=False, **medians)
    return costs, Rehearsal(losses[:, shown], *classed)


def _fetch_by_workers(loader: DataLoader[Any], seed: int) -> float:
    """Seconds a sample of reading, no model beside the workers, once what they read ahead is used up."""
    (size, batch_size), ahead = sizes(loader), loader.num_workers * (loader.prefetch_factor or 2)
    rows = torch.randperm(size, generator=generator(seed, 1, "estimate, rehearsed"))[: (2 * ahead + WARM) * batch_size]
    times = [time.perf_counter(), *(time.perf_counter() for _ in shuffled(loader, rows, seed))]
    skipped = ahead + 1 if len(times) > ahead + 2 else 0
    given = min(len(rows), (len(times) - 1) * batch_size) - skipped * batch_size
    return (times[-1] - times[skipped]) / max(given, 1)
