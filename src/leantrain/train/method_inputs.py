"""What methods are given before or during a training: features, gradients, the outcome of a probe.

Each method's own file says what it wants (``Selector.inputs``); here is how a session makes it. N samples.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import embed, methods
from leantrain.core.inputs import Input, Sized
from leantrain.core.ledger import Ledger
from leantrain.core.run import Run
from leantrain.core.selector import Selector, all_parts
from leantrain.data import ImageData
from leantrain.embed.extractors import Penultimate
from leantrain.methods._static_scores import ProbeRanking
from leantrain.methods.class_floor import ClassFloor
from leantrain.methods.full import Full
from leantrain.methods.input_size import InputSize
from leantrain.rng import generator
from leantrain.scoring.scorer import undisturbed
from leantrain.train.config import TrainConfig
from leantrain.train.session import Session
from leantrain.utils import nested_batch
from leantrain.utils.memory import Part, check_fits


@dataclass(eq=False)
class Made(Sized[Any]):
    """An input that a session makes when it is asked for.

    Attributes:
        trial: the pass alone, over another DataLoader; None for a forward pass of the model that is trained.
        epochs: of trainings that go before the pass, besides those that the method asks for itself.
    """

    width: int = 0
    trial: Callable[[DataLoader[Any]], Any] | None = None
    epochs: float = 0.0


def build(
    config: TrainConfig,
    method: str,
    session: Session | None = None,
    dress: Callable[[Input, Made], Any] = lambda wanted, made: made,
) -> Selector:
    """The selector called ``method``, with inputs that ``session`` makes when they are first needed.

    Args:
        session: without one the settings are checked, and the selector is of no further use.
        dress: gives what stands in the place of an input.

    Raises:
        ValueError, TypeError: an unknown method or setting, or a value out of range.
        OSError: weights of an extractor that are not to be had.
    """

    def provide(name: str, wanted: Input, own: dict[str, Any]) -> Any:
        given = own.pop(name, None)
        if wanted.kind == "side":
            return given if given is not None else _side(session) if session else 0
        epochs = 0.0
        if wanted.epochs:
            setting, share = wanted.epochs
            epochs = own.pop(setting, _epochs(share, config))
        if wanted.start and given in (None, "snapshot"):
            setting, share = wanted.start
            own.setdefault(setting, _epochs(share, config))
        elif wanted.start and session is None:
            named_extractor(given)
        if session is None:
            return Sized(lambda *_: None, 0)
        return dress(wanted, MAKERS[wanted.kind](session, wanted, given, epochs))

    selector = methods.make(method, config.settings, provide)
    if session:
        try_sizes(selector, session)
    return ClassFloor(selector, config.class_floor) if config.class_floor and method != "full" else selector


def try_sizes(selector: Selector, session: Session) -> None:
    """ValueError where the model does not take the smaller images that ``selector`` will show it."""
    data, device = session.data, session.fabric.device
    images = torch.zeros(2, data.channels, data.image_size, data.image_size, device=device)
    for part in all_parts(selector):
        for side in part.sides if isinstance(part, InputSize) else ():
            smaller = nested_batch.resize(images, side, part.stride)  # pyright: ignore[reportAttributeAccessIssue]
            try:
                with undisturbed(session.module, device):
                    session.module(smaller)
            except Exception as error:
                raise ValueError(
                    f"{session.config.model} does not take images of {smaller.shape[-1]} pixels, {side:g} of their "
                    f"full side: {error} Take a model that takes any size, or choose others: "
                    "--set input-size.sides=..., --set input-size.stride=..."
                ) from error


def _side(session: Session) -> int:
    """Of the images, in pixels; 0 where the model does not take smaller ones."""
    try:
        try_sizes(InputSize(), session)
    except ValueError:
        return 0
    return session.data.image_size


def _epochs(share: float, config: TrainConfig) -> int:
    return max(1, round(share * config.epochs))


def check(config: TrainConfig, chosen: Iterable[str], data: ImageData | None = None) -> None:
    """Make each selector once, with nothing trained: a bad or strange setting must show before hours of training.

    With ``data``, also refuses what will not fit into memory.
    """
    session = None if data is None else Session(config, data, 0)
    for method in chosen:
        selector = build(config, method, session)
        if "goal" in selector.needs and config.goal is None:
            raise ValueError(
                f"{method} changes how often the classes come, which helps one goal and harms the other. Say yours: "
                "--goal balanced where each class counts the same, --goal as-trained where classes will be as frequent "
                "as in training."
            )
        for part in all_parts(selector):
            if isinstance(part, ProbeRanking):
                part.check_probe(config.epochs)
        if session:
            held(selector, session)


def held(selector: Selector, session: Session) -> list[Part]:
    """The large things that ``selector`` will hold; ValueError when they are more than there is."""
    config, size = session.config, len(session.targets)
    parts = selector.memory(Run(size, config.batch_size, config.epochs, 0, Ledger(0), session.targets))
    check_fits(parts)
    return parts


def named_extractor(name: str, device: torch.device | str = "cpu") -> Penultimate:
    """The extractor that a setting names: of ``embed.pretrained``, or ``MODEL:FILE`` with weights from a file.

    Raises:
        ValueError, OSError: unknown model, or weights that are not to be had.
    """
    model, _, file = str(name).partition(":")
    return embed.pretrained(model, weights=file or "DEFAULT", device=device)


def _features(session: Session, wanted: Input, extractor: Any, epochs: float) -> Made:
    """An embedding: by the model itself as it is when asked, or by a pre-trained one."""
    trial, unreadable = None, session.config.unreadable
    if extractor in (None, "snapshot"):
        options = {"forward": session.forward, "unreadable": unreadable, "shared": True}
        make = embed.snapshot(session.model, session.batches, **options)
        width = make.width
    else:
        of = named_extractor(extractor, session.fabric.device)
        trial, width = lambda loader: embed.embed(loader, of, name=extractor, unreadable=unreadable), of.width
        options = {"name": extractor, "unreadable": unreadable, "shared": True}
        make = lambda: embed.embed(session.batches, of, **options)  # noqa: E731

    def features() -> embed.Features:
        with _preprocessing(session):
            made = make()
        session.clock.forward += len(made.values)
        return made

    return Made(features, width, trial=trial)


def _gradients(session: Session, wanted: Input, given: Any, epochs: float) -> Made:
    """Last-layer gradients of the model as it is; part of the selection, not of the pre-processing."""
    options: dict[str, Any] = {"forward": session.forward, "unreadable": session.config.unreadable, "shared": True}
    make = embed.gradients(session.model, session.batches, **options)

    def gradients() -> embed.Gradients:
        made = make()
        session.clock.forward += len(made.delta)
        return made

    return Made(gradients, make.width, make.classes, make.samples)


def _history(session: Session, wanted: Input, given: Any, epochs: float) -> Made:
    """What the ledger of a probe tells, such as forgetting events."""
    assert wanted.measure is not None
    measure = wanted.measure
    return Made(lambda epochs: measure(_probe(session, epochs).loader.ledger))


def _scores(session: Session, wanted: Input, given: Any, epochs: float) -> Made:
    """Difficulty of each sample for a model trained by a probe."""

    def measure(probe: Session, loader: DataLoader[Any]) -> Tensor:
        def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
            return model(probe.augment.plain(batch[0].to(probe.fabric.device))), batch[1]

        assert wanted.measure is not None
        # The bare module: vmap knows neither autocast in BatchNorm nor memory formats.
        skip = {"unreadable": "skip"} if session.config.unreadable == "skip" else {}
        return wanted.measure(probe.module, loader, forward=forward, **skip)

    def scores(epochs: float) -> Tensor:
        probe = _probe(session, epochs)
        with _preprocessing(session):
            made = measure(probe, probe.batches)
        session.clock.forward += len(made)
        return made

    return Made(scores, trial=lambda loader: measure(session, loader))


def _holdout(session: Session, wanted: Input, given: Any, epochs: float) -> Made:
    """Losses under models that never saw the sample: two, each trained on one half and asked about the other."""

    def losses() -> Tensor:
        size = len(session.targets)
        halves = torch.randperm(size, generator=generator(session.seed, 0, "holdout")).tensor_split(2)
        made = torch.empty(size, dtype=torch.float32)
        for mine, other in (halves, halves[::-1]):
            probe = _probe(session, epochs, mine)
            with _preprocessing(session):
                rest = Session(session.config, session.data, session.seed, other)
                made[other] = embed.holdout_losses(
                    probe.model,
                    rest.batches,
                    F.cross_entropy,
                    forward=probe.forward,
                    classes=len(session.data.classes),
                    unreadable=session.config.unreadable,
                )
            session.clock.forward += len(other)
        return made

    return Made(losses, epochs=epochs)


def _probe(session: Session, epochs: float, part: Tensor | None = None) -> Session:
    """A training of its own from scratch, on everything or on ``part``; its time counts as pre-processing."""
    with _preprocessing(session):
        probe = Session(session.config, session.data, session.seed, part)
        for _ in probe.fit(Full(), epochs) if epochs else ():
            pass
    if epochs:
        session.clock.forward += probe.loader.stats.trained
        session.clock.backward += probe.loader.stats.trained
    return probe


@contextlib.contextmanager
def _preprocessing(session: Session) -> Iterator[None]:
    """The time spent within counts as pre-processing."""
    start = time.perf_counter()
    yield
    session.clock.preprocess += time.perf_counter() - start


MAKERS: dict[str, Callable[[Session, Input, Any, float], Made]] = {
    "features": _features,
    "gradients": _gradients,
    "history": _history,
    "scores": _scores,
    "holdout": _holdout,
}
