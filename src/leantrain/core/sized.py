"""A function that says beforehand how large its result will be."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Sized(Generic[T]):
    """A function that says beforehand how wide its result is: an extractor, or what makes features or gradients.

    Args:
        make: the function.
        width: D, features of a row; 0 when unknown.
        classes: C, class scores beside them.
        samples: N, rows that it makes, where that is fixed.
    """

    def __init__(self, make: Callable[..., T], width: int, classes: int = 0, samples: int = 0) -> None:
        self.make, self.width, self.classes, self.samples = make, width, classes, samples

    def __call__(self, *given: Any) -> T:
        return self.make(*given)
