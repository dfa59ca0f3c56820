"""``leantrain.wrap``: the loader's own, which also takes a method by its name."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from torch.utils.data import DataLoader

from leantrain.core.selector import Selector
from leantrain.loader.loader import Loader
from leantrain.loader.wrap import wrap as wrap_loader
from leantrain.methods import make

P = ParamSpec("P")
Wrap = Callable[Concatenate[DataLoader[Any], Selector, P], Loader]
WrapNamed = Callable[Concatenate[DataLoader[Any], Selector | str, P], Loader]


def named(function: Wrap[P]) -> WrapNamed[P]:
    """``function`` of a DataLoader and a selector, which may then be a name too, as in ``leantrain train --method``."""

    @functools.wraps(function)
    def wrapped(loader: DataLoader[Any], selector: Selector | str, *given: P.args, **options: P.kwargs) -> Loader:
        return function(loader, make(selector) if isinstance(selector, str) else selector, *given, **options)

    return wrapped


wrap = named(wrap_loader)
