"""Checks of settings. Every message says what was given, what was expected and how to put it right."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

LARGEST = 2**63 - 1  # that torch's integers hold


def fraction(name: str, value: Any, *, zero: bool = False, one: bool = True) -> float:
    """``value`` as a float within (0, 1]; ``zero`` and ``one`` say whether the ends belong to the range."""
    span = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
    number = _real(name, value, f"a number in {span}")
    inside = 0 < number < 1 or (zero and number == 0) or (one and number == 1)
    if not inside:
        hint = f" For {number:g} % pass {number / 100:g}." if 1 < number <= 100 else ""
        raise ValueError(f"{name}={value!r} is outside {span}. It is a share of the whole.{hint}")
    return number


def positive(name: str, value: Any) -> float:
    """``value`` as a finite float above zero."""
    number = _real(name, value, "a number above 0")
    if not 0 < number < math.inf:
        raise ValueError(f"{name}={value!r} must be a finite number above 0.")
    return number


def integer(name: str, value: Any, *, least: int, most: float = LARGEST) -> int:
    """``value`` as an int from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} must be a whole number of at least {least}, not {type(value).__name__}.")
    number = int(value)
    if not least <= number <= most:
        bound = f"at least {least}" if number < least else f"at most {most:,}"
        raise ValueError(f"{name}={value!r} must be {bound}.")
    return number


def one_of(name: str, value: Any, allowed: Iterable[str]) -> Any:
    """``value`` if it is one of ``allowed``; otherwise a ValueError that names the nearest one."""
    names = list(allowed)
    if value in names:
        return value
    near = difflib.get_close_matches(str(value).lower(), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Unknown {name} {value!r}.{hint} Known: {', '.join(names)}.")


def _real(name: str, value: Any, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} must be {expected}, not {type(value).__name__}.")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {expected}, and is larger than any float.") from None


def portion(ratio: float, total: int) -> int:
    """ceil(ratio * total), so that no group comes out empty, without the surprise of ceil(0.55 * 100) = 56."""
    return math.ceil(round(ratio * total, 6))


def not_negative(name: str, value: Any) -> float:
    """``value`` as a finite float of at least zero."""
    return 0.0 if value == 0 else positive(name, value)


# Types of settings, which ``check_fields`` goes by.
Share = Annotated[float, fraction]  # in (0, 1]
ShareOrZero = Annotated[float, partial(fraction, zero=True)]
ShareBelowOne = Annotated[float, partial(fraction, zero=True, one=False)]
Positive = Annotated[float, positive]
NotNegative = Annotated[float, not_negative]
Count = Annotated[int, partial(integer, least=1)]
TwoOrMore = Annotated[int, partial(integer, least=2)]
CountOrZero = Annotated[int, partial(integer, least=0)]


def check_fields(settings: Any) -> None:
    """Check each field of a dataclass by its type: one of those above, a ``Literal``, ``bool``, or ``X | None``."""
    for field in fields(settings):
        name, value, kind = field.name, getattr(settings, field.name), field.type
        if get_origin(kind) in (UnionType, Union) and len(get_args(kind)) == 2 and type(None) in get_args(kind):
            kind = type(None) if value is None else get_args(kind)[0]
        if get_origin(kind) is Literal:
            one_of(name, value, get_args(kind))
        if kind is bool and not isinstance(value, bool):
            raise TypeError(f"{name}={value!r} must be True or False.")
        for check in getattr(kind, "__metadata__", ()):
            check(name, value)
