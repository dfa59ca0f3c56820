"""The methods by name. Adding one takes a file here, its test, its doc card and one line below."""

import dataclasses
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

from leantrain.core.inputs import Input
from leantrain.core.selector import Selector
from leantrain.methods.adonis import Adonis
from leantrain.methods.auto import Auto
from leantrain.methods.class_cap import ClassCap
from leantrain.methods.composer_sb import ComposerSB
from leantrain.methods.distinct import Distinct
from leantrain.methods.el2n import EL2N, GraNd
from leantrain.methods.forget import Forget
from leantrain.methods.full import Full
from leantrain.methods.grad_match import GradMatch, GradMatchPB
from leantrain.methods.ids import IDS
from leantrain.methods.ies import IES
from leantrain.methods.infobatch import InfoBatch
from leantrain.methods.input_size import InputSize
from leantrain.methods.iswr import ISWR
from leantrain.methods.kakurenbo import Kakurenbo
from leantrain.methods.label_guard import LabelGuard
from leantrain.methods.orderdp import OrderDP
from leantrain.methods.random_pb import RandomPB
from leantrain.methods.random_subset import RPC, RPD, RS2
from leantrain.methods.rho_loss import RHOLoss
from leantrain.methods.selective_backprop import SB, StaleSB
from leantrain.methods.seta import SeTa
from leantrain.methods.ssp import SSP
from leantrain.replay.record_replay import Replay
from leantrain.utils import validation

METHODS: dict[str, type[Selector]] = {
    "full": Full,
    "rpc": RPC,
    "rpd": RPD,
    "rs2": RS2,
    "random-pb": RandomPB,
    "infobatch": InfoBatch,
    "seta": SeTa,
    "orderdp": OrderDP,
    "kakurenbo": Kakurenbo,
    "iswr": ISWR,
    "label-guard": LabelGuard,
    "ies": IES,
    "ids": IDS,
    "ssp": SSP,
    "forget": Forget,
    "el2n": EL2N,
    "grand": GraNd,
    "grad-match": GradMatch,
    "grad-match-pb": GradMatchPB,
    "adonis": Adonis,
    "sb": SB,
    "stale-sb": StaleSB,
    "composer-sb": ComposerSB,
    "rho-loss": RHOLoss,
    "input-size": InputSize,
    "distinct": Distinct,
    "class-cap": ClassCap,
    "auto": Auto,
    "replay": Replay,
}


def parts(name: str) -> list[str]:
    """The names within ``"ids+adonis@theta"``, each checked; an unknown one is a ValueError with the nearest name."""
    names = [part.strip() for part in name.split("+")]
    if "+" in name and not all(names):
        raise ValueError(f"{name!r} lacks a method beside its +, which joins two: ids+adonis.")
    if len(words := name.split()) > 1 and METHODS.keys() >= set(words):
        raise ValueError(f"{name!r} is {len(words)} methods: put a comma between them, or a + to compose them.")
    for part in names:
        validation.one_of("method", part.partition("@")[0], METHODS)
    return names


def make(
    name: str,
    settings: dict[str, dict[str, Any]] | None = None,
    provide: Callable[[str, Input, dict[str, Any]], Any] | None = None,
) -> Selector:
    """The selector called ``name``; ``"ids+adonis"`` composes, left to right.

    Args:
        settings: keyword arguments by method name, for example ``{"adonis": {"theta": "auto"}}``. With
            ``{"ids@cosine": {"distance": "cosine"}}``, ``"ids@cosine"`` is IDS with these on top of those of ``"ids"``.
            ``"adonis@paper"`` needs none: it is ``Adonis.preset("paper")``.
        provide: what gives a method its inputs: a function of the setting's name, what is wanted, and all settings of
            the method, of which it may take out and add some.
    """
    settings = settings or {}
    for known in settings:
        parts(known)
    return reduce(operator.or_, [_part(part, settings, provide) for part in parts(name)])


def _part(part: str, settings: dict[str, dict[str, Any]], provide: Callable[..., Any] | None) -> Selector:
    """One of the names: over the settings of the method the preset that the label names, over these the label's own."""
    kind, _, label = part.partition("@")
    method = METHODS[kind]
    if label and part not in settings and label not in method.presets:
        known = f" Or name a preset: {', '.join(method.presets)}." if method.presets else ""
        raise ValueError(f"{part} has no settings of its own. Give some: --set {part}.SETTING=VALUE.{known}")
    chosen = settings.get(kind, {}) | method.presets.get(label, {}) | settings.get(part, {})
    for key, wanted in method.inputs.items():
        if provide and not wanted.other:
            chosen[key] = provide(key, wanted, chosen)
    fields = {field.name: field.default for field in dataclasses.fields(method)}  # pyright: ignore[reportArgumentType]
    for key in chosen:
        validation.one_of(f"setting of {part}", key, fields)
    for key in fields.keys() - chosen.keys():
        if fields[key] is dataclasses.MISSING:
            raise ValueError(f"{part} needs the setting {key!r}: --set {part}.{key}=VALUE, or settings in Python.")
    return method(**chosen)
