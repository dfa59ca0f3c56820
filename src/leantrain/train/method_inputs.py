"""What methods are given before or during a training: features, gradients, the outcome of a probe.

A method says what it needs by the name of a setting; ``MAKERS`` knows how the trainer makes each. N samples.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leantrain import embed, methods
from leantrain.core.ledger import Ledger
from leantrain.core.run import Run
from leantrain.core.sized import Sized
from leantrain.data import ImageData
from leantrain.embed.extractors import Penultimate, last_linear
from leantrain.methods.forget import forgetting_events
from leantrain.methods.full import Full
from leantrain.rng import generator
from leantrain.tasks.image_classification import models
from leantrain.train.config import TrainConfig
from leantrain.train.session import Session
from leantrain.utils.memory import Part, check_fits

Settings = dict[str, dict[str, Any]]


def provide(session: Session, method: str) -> Settings:
    """The settings of ``method``'s parts, with what the trainer makes for them put in as callables."""
    settings = {}
    for part in methods.parts(method):
        own = settings[part] = methods.settings_of(part, session.config.settings)
        for name in _made(part):
            own[name] = MAKERS[name](session, part, own)
    return settings


def check(config: TrainConfig, method: str, data: ImageData | None = None) -> list[Part]:
    """Make the selector once, with nothing trained: a bad setting must show before hours of training.

    With ``data``, also refuses what will not fit into memory. Returns the large things that the method will hold.
    """
    settings, model = {}, None
    for part in methods.parts(method):
        own = settings[part] = methods.settings_of(part, config.settings)
        for name in _made(part):
            given = own.pop(name, "snapshot")
            if name == "features" and given != "snapshot":
                width = named_extractor(given).width
            elif name in ("features", "gradients") and data is not None:
                model = model or _model(config, data)
                head = last_linear(model)
                width = head.in_features if head else 0
            else:
                width = 0
            own[name] = Sized(lambda *_: None, width, len(data.classes) if data else 0)
        own.pop("holdout_epochs", None)
    selector = methods.make(method, settings)
    if data is None:
        return []
    size = len(data.targets)
    parts = selector.memory(Run(size, config.batch_size, config.epochs, 0, Ledger(0), data.targets))
    check_fits(parts)
    return parts


def _model(config: TrainConfig, data: ImageData) -> nn.Module:
    """The model of a session, untrained."""
    size = {"channels": data.channels, "image_size": data.image_size, "width": config.width}
    return models.build(config.model, classes=len(data.classes), **size)


def named_extractor(name: str, device: torch.device | str = "cpu") -> Penultimate:
    """The extractor that a setting names: of ``embed.pretrained``, or ``MODEL:FILE`` with weights from a file.

    Raises:
        ValueError, OSError: unknown model, or weights that are not to be had.
    """
    model, _, file = str(name).partition(":")
    return embed.pretrained(model, weights=file or "DEFAULT", device=device)


def _made(part: str) -> list[str]:
    names = {field.name for field in dataclasses.fields(methods.METHODS[methods.kind(part)])}  # pyright: ignore[reportArgumentType]
    return [name for name in MAKERS if name in names]


def _features(session: Session, part: str, own: dict[str, Any]) -> Sized[embed.Features]:
    """An embedding: by the model itself after some epochs, or by a pre-trained one."""
    extractor = own.pop("features", "snapshot")
    width = 0
    if extractor == "snapshot":
        own.setdefault("start_epoch", max(1, round(0.1 * session.config.epochs)))
        make = embed.snapshot(session.model, session.batches, forward=session.forward)
        width = make.width
    else:
        of = named_extractor(extractor, session.fabric.device)
        width = of.width
        make = lambda: embed.embed(session.batches, of, name=extractor)  # noqa: E731

    def features() -> embed.Features:
        start = time.perf_counter()
        made = make()
        session.clock.preprocess += time.perf_counter() - start
        session.clock.forward += len(made.values)
        return made

    return Sized(features, width)


def _gradients(session: Session, part: str, own: dict[str, Any]) -> Sized[embed.Gradients]:
    """Last-layer gradients of the model as it is; part of the selection, not of the pre-processing."""
    make = embed.gradients(session.model, session.batches, forward=session.forward)

    def gradients() -> embed.Gradients:
        made = make()
        session.clock.forward += len(made.delta)
        return made

    return Sized(gradients, make.width, make.classes, make.samples)


def _events(session: Session, part: str, own: dict[str, Any]) -> Callable[[float], Tensor]:
    """Forgetting events of a probe run."""
    return lambda epochs: forgetting_events(_probe(session, epochs).loader.ledger)


def _scores(session: Session, part: str, own: dict[str, Any]) -> Callable[[float], Tensor]:
    """Difficulty of each sample for a model trained by a probe run."""

    def scores(epochs: float) -> Tensor:
        probe = _probe(session, epochs)
        start = time.perf_counter()

        def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
            return model(probe.augment.plain(batch[0].to(session.fabric.device))), batch[1]

        # The bare module: vmap knows neither autocast in BatchNorm nor memory formats.
        made = DIFFICULTY[methods.kind(part)](probe.module, probe.batches, forward=forward)
        session.clock.preprocess += time.perf_counter() - start
        session.clock.forward += len(made)
        return made

    return scores


def _holdout_losses(session: Session, part: str, own: dict[str, Any]) -> Callable[[], Tensor]:
    """Losses under models that never saw the sample: two, each trained on one half and asked about the other.

    ``holdout_epochs``, a setting of the trainer's, is the length of their trainings.
    """
    epochs = holdout_epochs(own, session.config)
    own.pop("holdout_epochs", None)

    def losses() -> Tensor:
        size = len(session.targets)
        halves = torch.randperm(size, generator=generator(session.seed, 0, "holdout")).tensor_split(2)
        made = torch.empty(size)
        for mine, other in (halves, halves[::-1]):
            probe = _probe(session, epochs, mine)
            start = time.perf_counter()
            rest = Session(session.config, session.data, session.seed, other)
            made[other] = embed.holdout_losses(
                probe.model, rest.batches, F.cross_entropy, forward=probe.forward, classes=len(session.data.classes)
            )
            session.clock.preprocess += time.perf_counter() - start
            session.clock.forward += len(other)
        return made

    return losses


def holdout_epochs(own: dict[str, Any], config: TrainConfig) -> int:
    """Length of the trainings of holdout models: a setting, or a fifth of the training's."""
    return own.get("holdout_epochs", max(1, round(0.2 * config.epochs)))


def _probe(session: Session, epochs: float, part: Tensor | None = None) -> Session:
    """A training of its own from scratch, on everything or on ``part``; its time counts as pre-processing."""
    start = time.perf_counter()
    probe = Session(session.config, session.data, session.seed, part)
    for _ in probe.fit(Full(), epochs) if epochs else ():
        pass
    session.clock.preprocess += time.perf_counter() - start
    if epochs:
        session.clock.forward += probe.loader.stats.trained
        session.clock.backward += probe.loader.stats.trained
    return probe


DIFFICULTY = {"el2n": embed.el2n_scores, "grand": partial(embed.grand_scores, chunk_size=32)}

MAKERS: dict[str, Callable[[Session, str, dict[str, Any]], Any]] = {
    "features": _features,
    "gradients": _gradients,
    "events": _events,
    "scores": _scores,
    "holdout_losses": _holdout_losses,
}
