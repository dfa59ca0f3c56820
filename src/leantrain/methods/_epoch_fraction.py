"""Settings that name a point of the training: a whole number of epochs, or a float that is a share of the training."""

from typing import Any

from leantrain.core.run import Run
from leantrain.utils import validation


def check_span(name: str, value: Any, *, least: int = 0) -> None:
    """ValueError or TypeError unless ``value`` is an int of at least ``least`` or a share; 0.0 if ``least`` is 0."""
    if isinstance(value, float):
        validation.fraction(name, value, zero=least == 0)
    else:
        validation.integer(name, value, least=least)


def in_epochs(name: str, value: int | float, run: Run, who: str) -> float:
    """``value`` in epochs. A share needs the length of the training; ValueError where that is unknown."""
    share = isinstance(value, float)
    return value * run.need_epochs(f"{who} with {name} as a share of the training") if share else value


def in_whole_epochs(name: str, value: int | float, run: Run, who: str) -> int:
    """The same, rounded; a share above zero is at least one epoch."""
    return max(round(in_epochs(name, value, run, who)), int(value > 0))
