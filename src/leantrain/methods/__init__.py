"""The methods by name. Adding one takes a file here, its test, its doc card and one line below."""

import dataclasses
from typing import Any

from leantrain import check
from leantrain.methods.adonis import Adonis
from leantrain.methods.full import Full
from leantrain.methods.ids import IDS
from leantrain.methods.infobatch import InfoBatch
from leantrain.methods.random_subset import RPC, RPD, RS2
from leantrain.methods.selective_backprop import SB, StaleSB
from leantrain.selector import Selector

METHODS: dict[str, type[Selector]] = {
    "full": Full,
    "rpc": RPC,
    "rpd": RPD,
    "rs2": RS2,
    "infobatch": InfoBatch,
    "ids": IDS,
    "adonis": Adonis,
    "sb": SB,
    "stale-sb": StaleSB,
}


def parts(name: str) -> list[str]:
    """The names within ``"ids+adonis"``, each checked; an unknown one is a ValueError with the nearest name."""
    return [check.one_of("method", part.strip(), METHODS) for part in name.split("+")]


def make(name: str, settings: dict[str, dict[str, Any]] | None = None) -> Selector:
    """The selector called ``name``; ``"ids+adonis"`` composes, left to right.

    Args:
        settings: keyword arguments by method name, for example ``{"adonis": {"theta": "auto"}}``.
    """
    settings = settings or {}
    for known in settings:
        check.one_of("method", known, METHODS)
    selectors = []
    for part in parts(name):
        known = [field.name for field in dataclasses.fields(METHODS[part])]  # pyright: ignore[reportArgumentType]
        for key in settings.get(part, {}):
            check.one_of(f"setting of {part}", key, known)
        selectors.append(METHODS[part](**settings.get(part, {})))
    selector = selectors[0]
    for other in selectors[1:]:
        selector = selector | other
    return selector
