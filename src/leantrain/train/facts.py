"""The facts of a run: one schema, written by the trainer, read by comparisons and reports. E: tests along a run."""

import reprlib
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WrapValidator

MOST = 1e15  # beyond it, nothing here is a time, a count or a share, and sums of it would overflow

_AsWritten = WrapValidator(lambda value, check: (check(value), value)[1])  # a whole number stays one
Number = Annotated[float, Field(strict=True, ge=-MOST, le=MOST), _AsWritten]
Amount = Annotated[float, Field(strict=True, ge=0, le=MOST), _AsWritten]
Share = Annotated[float, Field(strict=True, ge=0, le=1), _AsWritten]
Count = Annotated[int, Field(strict=True, ge=0, le=MOST)]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def _counted(events: Any) -> Any:
    if not isinstance(events, dict):
        return events
    return {name: n for name, n in events.items() if _number(n)}


class Costs(BaseModel):
    """Medians, in seconds a sample; ``decide``: of decisions and plans altogether. None where nothing was done."""

    fetch: Amount | None
    score: Amount | None
    step: Amount | None
    decide: Number


class Sized(BaseModel):
    """Training steps on inputs of one size.

    Attributes:
        pixels: share of the full size's.
        samples: that were trained on.
        step: median cost in seconds a sample; None where it is not known.
    """

    pixels: Share
    samples: Amount
    step: Amount | None


class Aside(BaseModel):
    """Samples of embedding and gradient passes and of probes: within a run's totals, their time as measured."""

    forward: Amount = 0
    backward: Amount = 0


class Point(BaseModel):
    """A run after an epoch; ``accuracy`` is None where it was not tested."""

    epoch: Amount
    train_seconds: Amount
    accuracy: Share | None


class TrainFacts(BaseModel):
    """What a training leaves beside its model, as in ``run.json``. Accuracies are shares.

    Attributes:
        settings: of the method.
        epochs: length of the training; a control's may be a fraction.
        accuracy: after the last epoch; None where it was not tested.
        class_accuracy: (C,), by label.
        selection_seconds: of plans, scoring and decisions, within ``train_seconds``.
        forward_samples, backward_samples, loaded_samples: with what was done ``aside``.
        smaller: what was trained on inputs of fewer pixels, smallest first; within the totals as whole samples.
        images: where the training images were.
        events: what the method counted, such as batches without a candidate; what is no number is left out.
    """

    settings: dict[str, Any] = {}
    epochs: Annotated[float, Field(strict=True, ge=1e-9, le=MOST), _AsWritten]
    accuracy: Share | None
    train_seconds: Amount
    preprocess_seconds: Amount
    selection_seconds: Number
    total_seconds: Amount = 0
    forward_samples: Amount
    backward_samples: Amount
    loaded_samples: Amount
    scored_samples: Amount = 0
    unreadable_samples: Amount = 0
    skipped_steps: Amount = 0
    aside: Aside = Aside()
    smaller: list[Sized] = []
    steps: Amount = 0
    ranks: Amount = 1
    images: str = ""
    trajectory: list[Point]
    events: Annotated[dict[str, Number], BeforeValidator(_counted)] = {}
    costs: Costs
    class_accuracy: list[Share] | None = None


# What a report can do without, and what it then shows.
_NEUTRAL: dict[str, Any] = dict.fromkeys(
    ("preprocess_seconds", "selection_seconds", "forward_samples", "backward_samples", "loaded_samples"), 0
) | {"trajectory": [], "costs": {"fetch": None, "score": None, "step": None, "decide": 0}}
_ESSENTIAL = {"method", "seed", "control_for", "epochs", "accuracy", "train_seconds"}


class RunFacts(TrainFacts):
    """A finished run of a comparison, as in ``results.json``.

    Attributes:
        method, seed: of the run.
        control_for: the method whose control it is, or ``line``, where it serves all; None for a method's own run.
        budget: what the control is cut to.
        share: of full training's epochs, of a control ``line``.
        steady_seconds: ``train_seconds`` at the median costs of all runs, so that a busy machine does not decide.
        rare_classes_accuracy: mean over the third of the classes with the fewest samples; None where none is rare.
    """

    method: str
    seed: Count
    control_for: str | None = None
    budget: Literal["time", "work"] | None = None
    share: Share | None = None
    accuracy: Share  # pyright: ignore[reportIncompatibleVariableOverride]
    steady_seconds: Amount | None = None
    rare_classes_accuracy: Share | None = None

    @classmethod
    def tolerant(cls, entry: dict[str, Any]) -> Self:
        """From a file that may come from anyone: what is odd or missing counts as unknown, if a report can do without.

        Raises:
            ValidationError: something that no report can do without.
        """
        try:
            return cls.model_validate(entry)
        except ValidationError as error:
            odd = {item["loc"][0] for item in error.errors()} - _ESSENTIAL
        return cls.model_validate(_NEUTRAL | {name: value for name, value in entry.items() if name not in odd})

    @property
    def seconds(self) -> float:
        """Of training: steady ones where they are known, else the clock's."""
        return self.steady_seconds or self.train_seconds

    def track(self) -> np.ndarray:
        """(E, 3) float64: epoch, ``seconds`` so far and accuracy, wherever it was tested."""
        points = [(point.epoch, point.train_seconds, point.accuracy) for point in self.trajectory]
        track = np.array([point for point in points if None not in point], dtype=np.float64).reshape(-1, 3)
        track[:, 1] *= self.seconds / self.train_seconds if self.train_seconds else 1.0
        return track


def first_error(error: ValidationError) -> str:
    """What is wrong with a file's content: the first place, what stands there, what was expected."""
    item = error.errors()[0]
    place = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{place!r} is missing"
    return f"{place!r} is {reprlib.repr(item['input'])}: {item['msg']}"
