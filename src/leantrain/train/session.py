"""A training session: a fresh model with its optimizer, and the loop that trains it. B = samples of a batch."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from leantrain.data import ImageData, require_extra
from leantrain.loader import Loader, wrap
from leantrain.schedule import ProgressLR
from leantrain.scoring import scorer
from leantrain.selector import Selector
from leantrain.train import models
from leantrain.train.augment import Augment
from leantrain.train.config import TrainConfig


@dataclass
class Clock:
    """Seconds of a session, and what was done aside of the training loop: embeddings, gradient passes, probes.

    Attributes:
        train: seconds of training, pre-processing and evaluation left out.
        preprocess: seconds of pre-processing.
        forward, backward: samples that went through a model aside; their time is measured, not modelled.
        steps: costs of training steps, in seconds a sample.
    """

    train: float = 0.0
    preprocess: float = 0.0
    forward: int = 0
    backward: int = 0
    steps: list[float] = field(default_factory=list)


class Session:
    """Everything that one training needs, made afresh from a configuration and a seed.

    Args:
        config: everything but method and seed.
        data: the data set that ``config.data`` names.
        seed: of initial weights, order, augmentation and selection.
        part: indices of the training samples to use; all by default.
    """

    def __init__(self, config: TrainConfig, data: ImageData, seed: int, part: Tensor | None = None) -> None:
        self.config, self.data, self.seed = config, data, seed
        self.clock = Clock()
        self.targets = data.targets if part is None else data.targets[part]
        self.fabric = _fabric(config)
        self.module = models.build(
            config.model,
            classes=len(data.classes),
            channels=data.channels,
            image_size=data.image_size,
            width=config.width,
            seed=seed,
        )
        if config.channels_last:
            self.module = self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        optimizer = _optimizer(config, self.module)
        model = torch.compile(self.module) if config.compile else self.module
        self.model, self.optimizer = self.fabric.setup(model, optimizer)
        self.augment = Augment(data.mean, data.std, data.image_size, seed=seed, **data.augment)
        # No persistent workers: they would draw from the generator another number of times than a run without workers.
        self.batches = DataLoader(
            data.train if part is None else Subset(data.train, part.tolist()),
            batch_size=config.batch_size,
            shuffle=True,
            num_workers=config.workers,
            pin_memory=self.fabric.device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),
        )

    def forward(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Class scores (B, C) and labels (B,) of a batch as it is, without augmentation."""
        return model(self._prepare(batch[0], self.augment.plain)), batch[1]

    def fit(self, selector: Selector, epochs: float) -> Iterator[dict[str, Any]]:
        """Train for ``epochs``; yields the facts of each epoch after it. ``self.loader`` is there from the first on."""
        self.loader = loader = wrap(
            self.batches,
            selector,
            score=scorer(self.model, F.cross_entropy, forward=self.forward),
            epochs=epochs,
            targets=self.targets,
            seed=self.seed,
            nonfinite=self.config.nonfinite,
        )
        schedule = ProgressLR(self.optimizer, loader, self.config.learning_rate())
        for epoch in range(math.ceil(epochs)):
            before, preprocessed = _counts(loader), self.clock.preprocess
            rate, loss_sum, seen = None, 0.0, 0
            self.model.train()
            start = time.perf_counter()
            for images, labels in loader:
                rate = self.optimizer.param_groups[0]["lr"] if rate is None else rate
                begun = time.perf_counter()
                loss_sum += float(self._step(images, labels, schedule)) * len(labels)
                seen += len(labels)
                self.clock.steps.append((time.perf_counter() - begun) / len(labels))
            preprocessing = self.clock.preprocess - preprocessed  # inside the plan of the epoch that needed it
            self.clock.train += time.perf_counter() - start - preprocessing
            spent = {name: value - before[name] for name, value in _counts(loader).items()}
            spent["selection_seconds"] -= preprocessing
            yield {
                "epoch": epoch,
                "train_seconds": self.clock.train,
                "train_loss": loss_sum / seen if seen else None,
                "lr": rate,
                **spent,
            }

    def _step(self, images: Tensor, labels: Tensor, schedule: ProgressLR) -> Tensor:
        loader = self.loader
        inputs = self._prepare(images, lambda x: self.augment(x, loader.indices.to(x.device), loader.epoch))
        logits = self.model(inputs)
        labels = labels.to(self.fabric.device)
        loss = loader.reduce(F.cross_entropy(logits, labels, reduction="none"), logits, labels)
        self.fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        schedule.step()
        return loss.detach()

    def _prepare(self, images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return transform(images.to(self.fabric.device, non_blocking=True)).to(memory_format=layout)


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


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(
            model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=nesterov
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[config.optimizer]
    return kind(model.parameters(), config.lr, weight_decay=config.weight_decay)


def _counts(loader: Loader) -> dict[str, Any]:
    stats = loader.stats
    return {
        "trained": stats.trained,
        "scored": stats.scored,
        "loaded": stats.loaded,
        "selection_seconds": stats.selection_seconds,
    }
