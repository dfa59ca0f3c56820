"""What a method is given of every sample: which kind of facts, and a callable that says beforehand how large they are.

N = size of the data set, D = features of a sample, C = classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """A setting that holds facts of the samples, or a callable that makes them when they are first needed.

    A method names its own in ``Selector.inputs``; that is all that a trainer, an estimate or a report go by.

    Args:
        kind: ``"features"``, an embedding, (N, D), by the model in training or a pre-trained one; ``"gradients"``, of
            the last layer, as factors; or one number a sample, (N,): ``"history"``, what the ledger of a probe tells, a
            short training beforehand; ``"scores"``, taken with the probe's model; ``"holdout"``, losses under models
            that never saw the sample. Or one number for all: ``"side"``, that of the images in pixels, where the model
            takes smaller ones too.
        measure: of a history, the function of the ledger; of scores, one of (model, loader, forward=...), and
            unreadable="skip" in a training that skips.
        start: of features, the setting that says after how many epochs the model in training is asked for them, and
            the share of the training that a trainer gives it.
        epochs: of a holdout, the trainer's setting for the length of its trainings, and likewise its share.
        other: these are facts of another data set, which only the user can give.
    """

    kind: Literal["features", "gradients", "history", "scores", "holdout", "side"]
    measure: Callable[..., Tensor] | None = None
    start: tuple[str, float] | None = None
    epochs: tuple[str, float] | None = None
    other: bool = False


@dataclass(eq=False)
class Sized(Generic[T]):
    """A function that says beforehand how wide its result is: an extractor, or what makes features or gradients.

    Args:
        make: the function.
        width: D, features of a row; 0 when unknown.
        classes: C, class scores beside them.
        samples: N, rows that it makes, where that is fixed.
    """

    make: Callable[..., T]
    width: int
    classes: int = 0
    samples: int = 0

    def __call__(self, *given: Any) -> T:
        return self.make(*given)
