"""A training session: a fresh model with its optimizer, and the loop that trains it. B = samples of a batch.

Started by ``torchrun``, it is one of several ranks: DDP through Fabric, each with its part of every batch.
"""

import contextlib
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from leantrain.core.selector import Selector
from leantrain.data import ImageData
from leantrain.distributed.process_group import Ranks
from leantrain.loader.loader import Loader
from leantrain.loader.wrap import wrap
from leantrain.rng import generator
from leantrain.schedule import ProgressLR
from leantrain.scoring.scorer import scorer
from leantrain.tasks.image_classification import models
from leantrain.tasks.image_classification.augment import Augment
from leantrain.train.config import TrainConfig
from leantrain.train.device_cache import Resident, place, whole
from leantrain.train.fabric import fabric_for

COUNTED = ("trained", "scored", "loaded", "unreadable", "skipped_steps", "selection_seconds")  # of an epoch's row
CHUNK = 32  # samples that a CPU scores at once in fp32; see results/benchmarks/scoring-forward.json


@dataclass
class Clock:
    """Seconds of a session, and what was done aside of the training loop: embeddings, gradient passes, probes.

    Attributes:
        train: seconds of training, pre-processing and evaluation left out.
        preprocess: seconds of pre-processing.
        forward, backward: samples that went through a model aside; their time is measured, not modelled.
        steps: the latest costs of training steps, in seconds a sample, by the share of the inputs' pixels.
    """

    train: float = 0.0
    preprocess: float = 0.0
    forward: int = 0
    backward: int = 0
    steps: defaultdict[float, deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=4096))  # bounded, as those of Stats
    )


@dataclass
class _Epoch:
    """Sums over the running epoch, and the counts before it."""

    before: dict[str, Any]
    rate: float | None = None
    loss_sum: Tensor | float = 0.0  # on the device: to read it there in each step would wait for the step
    seen: int = 0
    preprocess: float = 0.0


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
        self._lap: tuple[float, float] | None = None  # start of what counts as training, and pre-processing by then
        self.targets = data.targets if part is None else data.targets[part]
        self.fabric = fabric_for(config)
        self.ranks = Ranks()
        if config.batch_size % self.ranks.count:
            raise ValueError(
                f"batch_size={config.batch_size} is that of all ranks together and does not divide by "
                f"{self.ranks.count}, their number. Give one that does."
            )
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
        self.score = scorer(self.model, F.cross_entropy, forward=self.forward, chunk=self._chunk())
        self.augment = Augment(data.mean, data.std, data.image_size, seed=seed, **data.augment)
        self.place = place(config, data.train, self.fabric.device)
        resident = self.place is not None
        if resident:
            images = Resident(data.train, self.place, part)  # pyright: ignore[reportArgumentType]
        else:
            images = data.train if part is None else Subset(data.train, part.tolist())
        # No persistent workers: they would draw from the generator another number of times than a run without workers.
        self.batches = DataLoader(
            images,
            batch_size=config.batch_size // self.ranks.count,
            shuffle=True,
            num_workers=0 if resident else config.workers,
            collate_fn=whole if resident else None,
            pin_memory=self.fabric.device.type == "cuda" and self.place != self.fabric.device,
            generator=torch.Generator().manual_seed(seed),
        )

    def forward(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Class scores (B, C) and labels (B,) of a batch as it is, without augmentation."""
        return model(self._prepare(batch[0], self.augment.plain)), batch[1]

    def fit(
        self,
        selector: Selector,
        epochs: float,
        *,
        resume: dict[str, Any] | None = None,
        after_step: Callable[[], None] | None = None,
        timed: Callable[..., None] = lambda *_: None,
    ) -> Iterator[dict[str, Any]]:
        """Train for ``epochs``; yields the facts of each epoch after it. ``self.loader`` is there from the first on.

        Args:
            selector: the method.
            epochs: length of the training; the last one may be cut short.
            resume: ``state()`` of a session made alike, to go on from.
            after_step: called after each training step; may ask for ``state()``.
            timed: called with "start", the batch and its size before each training step, and with "forward",
                "backward" and "optimizer" as these parts of it end.
        """
        self.loader = loader = wrap(
            self.batches,
            selector,
            score=self.score,
            epochs=epochs,
            targets=self.targets,
            seed=self.seed,
            nonfinite=self.config.nonfinite,
            unreadable=self.config.unreadable,
            goal=self.config.goal,
        )
        schedule = ProgressLR(self.optimizer, loader, self.config.learning_rate())
        self._running = _Epoch(_counts(loader))
        if resume is not None:
            self._load(resume)
        while loader.epoch < epochs:
            epoch = loader.epoch
            self.model.train()
            self._start_lap()
            for images, labels in loader:
                timed("start", (images, labels), len(labels))
                running, begun = self._running, time.perf_counter()
                running.rate = self.optimizer.param_groups[0]["lr"] if running.rate is None else running.rate
                loss = self._step(images, labels, schedule, timed)
                if loss is not None:
                    running.loss_sum = running.loss_sum + self._exact(loss) * len(labels)
                    running.seen += len(labels)
                self.clock.steps[loader.pixels].append((time.perf_counter() - begun) / len(labels))
                if after_step:
                    after_step()
            self._end_lap()
            running, counts = self._running, _counts(loader)
            spent = {name: value - running.before[name] for name, value in counts.items()}
            spent["selection_seconds"] -= running.preprocess  # inside the plan of the epoch that needed it
            self._running = _Epoch(counts)
            loss = float(running.loss_sum) / running.seen if running.seen else math.nan
            yield {
                "epoch": epoch,
                "train_seconds": self.clock.train,
                "train_loss": loss if math.isfinite(loss) else None,  # JSON knows no NaN
                "lr": running.rate,
                **spent,
            }

    def state(self) -> dict[str, Any]:
        """Everything needed to go on from the training step done last. The time since then is not the training's.

        With several ranks: to be called on all of them, gives the same.
        """
        within = self._lap is not None
        self._end_lap()
        clock = {name: getattr(self.clock, name) for name in ("train", "preprocess", "forward", "backward")}
        state = {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # with fp16 the loss scale, and what it grows by
            "loader": self.loader.state_dict(),
            "clock": clock,
            "running": vars(self._running)
            | {"before": dict(self._running.before), "loss_sum": float(self._running.loss_sum)},
        }
        if within:
            self._start_lap()
        return state

    def check_weights(self) -> None:
        """FloatingPointError for weights that are NaN or infinite: a loss can be finite where its gradient is not."""
        broken = [name for name, value in self.module.state_dict().items() if not bool(value.isfinite().all())]
        if broken:
            more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
            raise FloatingPointError(
                f"A training step left NaN or infinity in {', '.join(broken[:3])}{more} from finite losses. "
                f"The latest one was on the samples {self.loader.indices.tolist()[:10]} (indices into the data set). "
                "Look at them and the learning rate."
            )

    def _load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("precision"):  # nothing but with fp16, and older states have none
            self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.loader.load_state_dict(state["loader"])
        for name, value in state["clock"].items():
            setattr(self.clock, name, value)
        self._running = _Epoch(**state["running"])

    def _start_lap(self) -> None:
        self._lap = time.perf_counter(), self.clock.preprocess

    def _end_lap(self) -> None:
        """Add the time since the lap's start to the training's, and of it to the pre-processing's what is that."""
        if self._lap is None:
            return
        (begun, preprocessed), self._lap = self._lap, None
        preprocessing = self.clock.preprocess - preprocessed
        self.clock.train += time.perf_counter() - begun - preprocessing
        self._running.preprocess += preprocessing

    def _step(self, images: Tensor, labels: Tensor, schedule: ProgressLR, timed: Callable[..., None]) -> Tensor | None:
        """The loss of the batch; None when it was not finite and the step skipped."""
        loader = self.loader
        before = [buffer.clone() for buffer in self.module.buffers()] if self.config.nonfinite == "skip" else []
        inputs = self._prepare(
            images, lambda x: self.augment(x, loader.indices.to(x.device), loader.epoch, loader.view)
        )
        with self._dropout():
            logits = self.model(inputs)
        labels = labels.to(self.fabric.device)
        loss = loader.reduce(F.cross_entropy(logits, labels, reduction="none"), logits, labels)
        if loss.grad_fn is None:  # of a skipped step; a loss scaler refuses to step without gradients
            for buffer, value in zip(self.module.buffers(), before, strict=True):  # BatchNorm took in the NaN
                buffer.copy_(value)
            return None
        timed("forward")
        self.fabric.backward(loss)
        timed("backward")
        self.optimizer.step()
        self.optimizer.zero_grad()
        schedule.step()
        timed("optimizer")
        return loss.detach()

    @contextlib.contextmanager
    def _dropout(self) -> Iterator[None]:
        """Within, torch draws from a stream of this step's own, whatever ran before: a resumed run drops the same."""
        device = self.fabric.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            step = self.loader.stats.steps * self.ranks.count + self.ranks.rank
            # On the CPU not torch.manual_seed, which seeds all devices and costs more than the rest of the bookkeeping.
            reseed = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
            reseed(generator(self.seed, self.loader.epoch, "dropout", step).initial_seed())
            yield

    def _exact(self, loss: Tensor) -> Tensor:
        """In float64, where the device has it."""
        return loss if self.fabric.device.type == "mps" else loss.double()

    def _chunk(self) -> int | None:
        """Not on several ranks: DDP exchanges buffers in each pass, so all would need the same number of passes."""
        if self.fabric.device.type != "cpu" or self.ranks.count > 1:
            return None
        return CHUNK if self.config.precision == "fp32" else 2 * CHUNK  # the same in bytes

    def _prepare(self, images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return transform(images.to(self.fabric.device, non_blocking=True)).to(memory_format=layout)


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(
            model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=nesterov
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[config.optimizer]
    return kind(model.parameters(), config.lr, weight_decay=config.weight_decay)


def _counts(loader: Loader) -> dict[str, Any]:
    return {name: getattr(loader.stats, name) for name in COUNTED}
