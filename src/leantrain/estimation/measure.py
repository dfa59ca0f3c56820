"""``estimate``: what each method would cost in the user's own training, before any of them is tried.

N = size of the data set, B = samples of a batch, m = samples of the short training, e = its epochs.
"""

import contextlib
import copy
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, SubsetRandomSampler

from leantrain.core import dataset_info
from leantrain.core.selector import Selector
from leantrain.estimation.dry_run import Prices, Rehearsal, Stage
from leantrain.estimation.forecast import Costs, Estimate, forecast
from leantrain.loader import dataloader
from leantrain.loader.loader import Loader
from leantrain.loader.wrap import wrap
from leantrain.methods.full import Full
from leantrain.rng import generator
from leantrain.scoring.scorer import check_losses, per_sample_loss, read_pair, scorer
from leantrain.utils import nested_batch, validation

TRAINING, CHOOSING = 0.55, 0.3  # shares of the seconds: of the short training, of all dry runs
BATCH = 4e-4  # seconds that a batch of a dry run takes, about
EPOCHS = 10  # of the short training at most; more would leave few samples for each
WARM, SCORED = 8, 4  # batches that are timed first; every which batch is scored too
Forward = Callable[[nn.Module, Any], tuple[Any, Any]]


def estimate(
    loader: DataLoader[Any],
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    selectors: Mapping[str, Selector],
    *,
    epochs: float,
    forward: Forward | None = None,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    targets: Any = None,
    seed: int = 0,
    seconds: float = 60.0,
) -> Estimate:
    """Predict how much faster each method would make a training on this machine, and what would bind it.

    A copy of the model is trained for a while on some of the samples. That gives the costs of a sample and losses as
    they are at each share of the training. Each selector then goes through a whole training without a model: it plans
    and decides on those losses, and what it would load, score and train is counted. Counts that follow from the
    settings (a fixed share) are exact; those that hang on losses assume that the losses fall as in full training on
    those samples.

    Nothing of the caller's changes: not the model, its gradients, flags and buffers, nor the generators of torch,
    numpy, ``random`` and the DataLoader. A data set that keeps state of its own, and hooks of the model, do run.
    A callable for features, gradients, events, scores or holdout losses is not called: an embedding, gradient or
    scoring pass is taken to cost a forward pass a sample, probes what they train.

    Args:
        loader: the training DataLoader. A sampler of its own is taken for one that yields each sample once.
        model: as it is before the training. Twice its memory is needed for a while.
        loss_fn: as for ``scorer``: gives one loss a sample.
        selectors: the methods by name, for example ``{"infobatch": InfoBatch()}``.
        epochs: length of the training.
        forward: how a batch becomes (outputs, targets), as for ``scorer``.
        optimizer: function of parameters that makes one; by default SGD with a learning rate of 0.01 and momentum 0.9.
        targets: (N,) class labels, as for ``wrap``.
        seed: of all draws.
        seconds: how long it may take, about.

    Raises:
        TypeError, ValueError: what ``wrap`` would refuse, with the method's name.
        FloatingPointError: the short training diverged.
    """
    size = dataloader.check_loader(loader)
    check_selectors(selectors)
    epochs, seconds = validation.positive("epochs", epochs), validation.positive("seconds", seconds)
    batch_size = getattr(loader.batch_sampler, "batch_size", None)
    if batch_size is None:
        raise ValueError("estimate() needs to know the size of a batch: give the DataLoader a batch_size.")
    practice = _Practice(loader, model, loss_fn, forward or read_pair, optimizer or _sgd, batch_size, seed)
    with unmoved_randomness():
        torch.manual_seed(generator(seed, 0, "estimate").initial_seed() % 2**63)
        warm = Timings()
        practice.train(min(size, WARM * batch_size), 1, warm)
        samples, passes = shape(seconds * TRAINING / warm.cost(), size, batch_size, epochs)
        timings = Timings()
        rehearsal = practice.train(samples, passes, timings)
        fetch = timings.fetch if loader.num_workers == 0 else fetching(loader, batch_size, seed)
    stage = Stage(
        size=size,
        batch_size=batch_size,
        drop_last=bool(getattr(loader.batch_sampler, "drop_last", False)),
        epochs=epochs,
        targets=dataset_info.labels(loader.dataset, targets, size),
        seed=seed,
        rehearsal=rehearsal,
        prices=Prices(0, 0),
        most=1,
    )
    costs = timings.costs(fetch, overlap=loader.num_workers > 0)
    return predict(stage, costs, selectors, (samples, passes), seconds)


def predict(
    stage: Stage, costs: Costs, selectors: Mapping[str, Selector], rehearsed: tuple[int, int], seconds: float
) -> Estimate:
    """Put full training and ``selectors`` through their dry runs and price what they would do.

    Args:
        stage: without prices and limit, which follow from the rest.
        costs: as measured.
        rehearsed: samples and epochs of the short training.
        seconds: that the whole estimate may take.
    """
    join = max if costs.overlap else lambda reading, work: reading + work
    prices = Prices(join(costs.fetch, costs.score), join(costs.fetch, costs.step))
    most = int(seconds * CHOOSING / BATCH / (len(selectors) + 1))
    stage = Stage(**vars(stage) | {"prices": prices, "most": most})
    runs = []
    for name, selector in {"full": Full(), **selectors}.items():
        try:
            runs.append((name, stage.run(selector)))
        except (TypeError, ValueError) as error:
            error.add_note(f"Method {name}.")
            raise
    return Estimate(
        forecasts=forecast(runs, costs, stage.size, stage.epochs),
        costs=costs,
        size=stage.size,
        batch_size=stage.batch_size,
        epochs=stage.epochs,
        rehearsed=rehearsed,
        simulated=stage.simulated,
    )


def shape(budget: float, size: int, batch_size: int, epochs: float) -> tuple[int, int]:
    """Samples m, whole batches where they are not all, and epochs e of a training that shows ``budget`` samples."""
    passes = max(1, min(int(epochs), EPOCHS))
    samples = max(2 * batch_size, int(budget / passes) // batch_size * batch_size)
    if samples < size:
        return samples, passes
    return size, max(1, min(int(epochs), int(budget / size)))


def check_selectors(selectors: Any) -> None:
    """TypeError, ValueError unless ``selectors`` are some, by name."""
    if not isinstance(selectors, Mapping):
        raise TypeError(
            f'selectors must be a dict of methods by name, such as {{"infobatch": InfoBatch()}}, not '
            f"{type(selectors).__name__}."
        )
    if not selectors:
        raise ValueError('selectors is empty: name at least one method, such as {"infobatch": InfoBatch()}.')
    for name, selector in selectors.items():
        if not isinstance(selector, Selector):
            raise TypeError(
                f"selectors[{name!r}] must be a Selector such as InfoBatch(), not {type(selector).__name__}."
            )


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


@dataclass
class Timings:
    """Seconds a sample, one entry a batch."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    optimizer: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    fetch: float = 0.0  # median already

    def costs(self, fetch: float, *, overlap: bool) -> Costs:
        """Medians, with ``fetch`` as given."""
        parts = {name: statistics.median(getattr(self, name)) for name in ("forward", "backward", "optimizer", "score")}
        return Costs(fetch=fetch, overlap=overlap, **parts)

    def cost(self) -> float:
        """Seconds of a sample of the short training."""
        costs = self.costs(self.fetch, overlap=False)
        return costs.fetch + costs.step + costs.score / SCORED


@dataclass
class _Practice:
    """Short trainings of copies of ``model``."""

    loader: DataLoader[Any]
    model: nn.Module
    loss_fn: Callable[..., Tensor]
    forward: Forward
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    batch_size: int
    seed: int

    def train(self, samples: int, epochs: int, timings: Timings) -> Rehearsal:
        """Full training of a copy on ``samples`` random samples. Fills ``timings``."""
        model = copy.deepcopy(self.model)
        if not model.training:
            model.train()
        model.zero_grad()
        rows = torch.randperm(self._size(), generator=generator(self.seed, 0, "estimate, rehearsed"))[:samples]
        loader = wrap(reading(self.loader, rows, self.batch_size, self.seed), Full(), seed=self.seed)
        optimizer = self.make_optimizer([value for value in model.parameters() if value.requires_grad])
        told = []
        for _ in range(epochs):
            self._epoch(loader, model, optimizer, timings)
            ledger = loader.ledger
            told.append((ledger.loss[rows], ledger.correct[rows], ledger.confidence[rows]))
        timings.fetch = statistics.median(loader.stats.fetch_cost)
        return rehearsal(*map(torch.stack, zip(*told, strict=True)))

    def _epoch(self, loader: Loader, model: nn.Module, optimizer: Optimizer, timings: Timings) -> None:
        parameter = next(model.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        per_sample = per_sample_loss(self.loss_fn)
        score = scorer(model, self.loss_fn, forward=self.forward)
        for number, batch in enumerate(loader):
            count = len(loader.indices)
            if number % SCORED == 0:
                start = now(device)
                scores = score(batch)
                check_losses(scores.losses, count, "loss_fn(outputs, targets)")
                scores.cpu()
                timings.score.append((now(device) - start) / count)
            begun = now(device)
            outputs, targets = self.forward(model, nested_batch.to(batch, device))
            loss = loader.reduce(per_sample(outputs, targets), outputs, targets)
            forwarded = now(device)
            loss.backward()
            back = now(device)
            optimizer.step()
            optimizer.zero_grad()
            timings.forward.append((forwarded - begun) / count)
            timings.backward.append((back - forwarded) / count)
            timings.optimizer.append((now(device) - back) / count)

    def _size(self) -> int:
        return len(self.loader.dataset)  # pyright: ignore[reportArgumentType]


def reading(loader: DataLoader[Any], rows: Tensor, batch_size: int, seed: int) -> DataLoader[Any]:
    """A DataLoader like ``loader`` over ``rows`` in random order, with generators of its own."""
    rng = torch.Generator().manual_seed(seed)
    return DataLoader(
        loader.dataset,
        batch_size=batch_size,
        sampler=SubsetRandomSampler(rows.tolist(), generator=rng),
        drop_last=bool(getattr(loader.batch_sampler, "drop_last", False)) and len(rows) >= batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        generator=rng,
    )


def fetching(loader: DataLoader[Any], batch_size: int, seed: int) -> float:
    """Seconds a sample of reading with worker processes, no model beside them, once what they read ahead is used up."""
    ahead = loader.num_workers * (loader.prefetch_factor or 2)
    rows = torch.randperm(len(loader.dataset), generator=generator(seed, 1, "estimate, rehearsed"))  # pyright: ignore
    rows = rows[: (2 * ahead + WARM) * batch_size]
    start, done, late = time.perf_counter(), 0, len(rows) > ahead * batch_size
    for number, batch in enumerate(reading(loader, rows, batch_size, seed)):
        if late and number == ahead:
            start, done = time.perf_counter(), 0
        else:
            done += nested_batch.size(batch) or batch_size
    return (time.perf_counter() - start) / max(done, 1)


def rehearsal(losses: Tensor, correct: Tensor, confidence: Tensor) -> Rehearsal:
    """From what a ledger held after each epoch, (e, m) each; samples never shown are left out."""
    shown = losses.isfinite().all(dim=0)
    known = bool((correct[:, shown] >= 0).all())
    return Rehearsal(losses[:, shown], *((correct[:, shown] == 1, confidence[:, shown]) if known else ()))


def now(device: torch.device) -> float:
    """The clock's seconds, once ``device`` has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
