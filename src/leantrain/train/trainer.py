"""The reference trainer: image classification with any method, timed. B = samples of a batch, N = of the data set."""

import contextlib
import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import methods
from leantrain._torchvision import import_torchvision
from leantrain.data import ImageData, require_extra
from leantrain.embed import Features, embed, pretrained, snapshot
from leantrain.loader import Loader, wrap
from leantrain.schedule import ProgressLR
from leantrain.scoring import scorer
from leantrain.train import models
from leantrain.train.augment import Augment
from leantrain.train.config import TrainConfig


@dataclass
class RunResult:
    """One finished training.

    Attributes:
        facts: what ``results.json`` holds of the run, but for who asked for it.
        epochs: one dict an epoch, the rows of ``metrics.parquet``.
        trained: (N,) int32, how often each sample was trained on.
        model: the trained model.
    """

    facts: dict[str, Any]
    epochs: list[dict[str, Any]]
    trained: Tensor
    model: nn.Module


@dataclass
class _Clock:
    """Seconds of the run, and the latest per-sample cost of a training step."""

    train: float = 0.0
    preprocess: float = 0.0
    embedded: int = 0
    steps: list[float] = field(default_factory=list)


def train(
    config: TrainConfig,
    data: ImageData,
    method: str,
    seed: int,
    *,
    epochs: float | None = None,
    after_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> RunResult:
    """Train one model with one method.

    Args:
        config: everything but method and seed.
        data: the data set that ``config.data`` names.
        method: a name of ``leantrain.methods``, or several joined by ``+``.
        seed: of initial weights, order, augmentation and selection.
        epochs: length of the training, by default ``config.epochs``; a control's may be a fraction.
        after_epoch: called with each epoch's row, for progress bars.

    Raises:
        ValueError: a setting does not fit the method or the data; before the training starts.
        FloatingPointError: the training diverged; names the samples.
    """
    epochs = config.epochs if epochs is None else epochs
    fabric = _fabric(config)
    model = models.build(
        config.model,
        classes=len(data.classes),
        channels=data.channels,
        image_size=data.image_size,
        width=config.width,
        seed=seed,
    )
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
    )
    model, optimizer = fabric.setup(torch.compile(model) if config.compile else model, optimizer)
    augment = Augment(data.mean, data.std, data.image_size, seed=seed, **data.augment)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format

    def prepare(images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        return transform(images.to(fabric.device, non_blocking=True)).to(memory_format=layout)

    def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model(prepare(batch[0], augment.plain)), batch[1]

    clock = _Clock()
    # No persistent workers: they would draw from the generator another number of times than a run without workers.
    batches = DataLoader(
        data.train,
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=config.workers,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator().manual_seed(seed),
    )
    selector = methods.make(method, _settings(config, method, model, batches, forward, fabric.device, clock))
    loader = wrap(
        batches,
        selector,
        score=scorer(model, F.cross_entropy, forward=forward),
        epochs=epochs,
        targets=data.targets,
        seed=seed,
        nonfinite=config.nonfinite,
    )
    schedule = ProgressLR(optimizer, loader, config.learning_rate())

    def step(images: Tensor, labels: Tensor) -> Tensor:
        inputs = prepare(images, lambda x: augment(x, loader.indices.to(x.device), loader.epoch))
        logits = model(inputs)
        labels = labels.to(fabric.device)
        loss = loader.reduce(F.cross_entropy(logits, labels, reduction="none"), logits, labels)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        return loss.detach()

    rows: list[dict[str, Any]] = []
    for epoch in range(math.ceil(epochs)):
        before = _counts(loader)
        rate, loss_sum, seen = optimizer.param_groups[0]["lr"], 0.0, 0
        preprocessed, start = clock.preprocess, time.perf_counter()
        model.train()
        for images, labels in loader:
            begun = time.perf_counter()
            loss_sum += float(step(images, labels)) * len(labels)
            seen += len(labels)
            clock.steps.append((time.perf_counter() - begun) / len(labels))
        preprocessing = clock.preprocess - preprocessed  # inside the plan of the epoch that needed it
        clock.train += time.perf_counter() - start - preprocessing
        spent = {name: value - before[name] for name, value in _counts(loader).items()}
        spent["selection_seconds"] -= preprocessing
        row = {
            "epoch": epoch,
            "train_seconds": clock.train,
            "accuracy": accuracy(model, data, forward, config.batch_size),
            "train_loss": loss_sum / seen if seen else None,
            "lr": rate,
            **spent,
        }
        rows.append(row)
        if after_epoch:
            after_epoch(row)
    return RunResult(_facts(loader, selector, clock, rows, epochs), rows, loader.ledger.trained, model)


@torch.no_grad()
def accuracy(model: nn.Module, data: ImageData, forward: Callable[..., Any], batch_size: int) -> float:
    """Share of the test samples that the model classifies rightly. The model is left in eval mode."""
    with contextlib.suppress(ImportError):
        import_torchvision()  # torchmetrics imports it where it is installed
    metrics = require_extra("torchmetrics.classification", "train")
    model.eval()
    metric = metrics.MulticlassAccuracy(num_classes=len(data.classes), average="micro")
    for batch in DataLoader(data.test, batch_size=max(batch_size, 256), generator=torch.Generator()):
        logits, labels = forward(model, batch)
        metric.update(logits.cpu().float(), labels)
    return float(metric.compute())


def _fabric(config: TrainConfig) -> Any:
    """Lightning Fabric on one device, with the precision asked for."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' was asked for, and torch sees no CUDA device. Use --device cpu.")
    if config.precision == "fp16" and (config.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("precision='fp16' needs a GPU (its loss scaling does). Use bf16 or fp32 on the CPU.")
    fabric = require_extra("lightning_fabric", "train")
    precision = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[config.precision]
    chatter = logging.getLogger("lightning_fabric")  # it announces the precision of every run
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        return fabric.Fabric(accelerator=config.device, devices=1, precision=precision)
    finally:
        chatter.setLevel(level)


def _settings(
    config: TrainConfig,
    method: str,
    model: nn.Module,
    loader: DataLoader[Any],
    forward: Callable[..., Any],
    device: torch.device,
    clock: _Clock,
) -> dict[str, dict[str, Any]]:
    """The methods' settings, with IDS's extractor made from its name."""
    settings = {name: dict(values) for name, values in config.settings.items()}
    if "ids" not in methods.parts(method):
        return settings
    ids = settings.setdefault("ids", {})
    extractor = ids.pop("features", "snapshot")
    if extractor == "snapshot":
        ids.setdefault("start_epoch", max(1, round(0.1 * config.epochs)))
        make = snapshot(model, loader, forward=forward)
    else:
        make = lambda: embed(loader, named_extractor(extractor, device), name=extractor)  # noqa: E731

    def features() -> Features:
        start = time.perf_counter()
        made = make()
        clock.preprocess += time.perf_counter() - start
        clock.embedded += len(made.values)
        return made

    ids["features"] = features
    return settings


def named_extractor(name: str, device: torch.device | str = "cpu") -> Callable[[Any], Tensor]:
    """The extractor that a setting names: a torchvision model, or ``MODEL:FILE`` with weights from a file.

    Raises:
        ValueError, OSError: unknown model, or weights that are not to be had.
    """
    model, _, file = str(name).partition(":")
    return pretrained(model, weights=file or "DEFAULT", device=device)


def _counts(loader: Loader) -> dict[str, Any]:
    stats = loader.stats
    return {
        "trained": stats.trained,
        "scored": stats.scored,
        "loaded": stats.loaded,
        "selection_seconds": stats.selection_seconds,
    }


def _facts(loader: Loader, selector: Any, clock: _Clock, rows: list[dict[str, Any]], epochs: float) -> dict[str, Any]:
    stats = loader.stats
    # The plan of the epoch that needed the embedding waited for it; that time is the pre-processing's.
    selection = stats.selection_seconds - clock.preprocess
    return {
        "settings": selector.settings(),
        "epochs": epochs,
        "accuracy": rows[-1]["accuracy"],
        "train_seconds": clock.train,
        "preprocess_seconds": clock.preprocess,
        "selection_seconds": selection,
        "total_seconds": clock.train + clock.preprocess,
        "forward_samples": stats.trained + stats.scored + clock.embedded,
        "backward_samples": stats.trained,
        "loaded_samples": stats.loaded + clock.embedded,
        "steps": stats.steps,
        "trajectory": [{name: row[name] for name in ("epoch", "train_seconds", "accuracy")} for row in rows],
        "scored_samples": stats.scored,
        "events": selector.report(),
        "costs": {  # medians, in seconds a sample; decisions and plans in seconds altogether
            "fetch": _median(stats.fetch_cost),
            "score": _median(stats.score_cost),
            "step": _median(clock.steps),
            "decide": selection - stats.score_seconds,
        },
    }


def _median(values: Any) -> float | None:
    return statistics.median(values) if values else None
