"""The commands' flags, made from the configuration: one a field, with its help, choices, range and default."""

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import torch
import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from rich.markup import escape

from leantrain.train.config import SECTIONS, in_words, parse_yaml, read_yaml
from leantrain.utils import validation

MOST_THREADS = 4096


def home(path: Path | None) -> Path | None:
    """``path`` with ~ as the home folder: a shell leaves it alone in --out=~/runs."""
    try:
        return path and path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from None


Threads = Annotated[
    int | None, typer.Option(help="CPU threads that torch uses, by default all cores (>=1)", rich_help_panel="Machine")
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="METHOD.SETTING=VALUE, adonis.sigma=1.5; repeatable")]
ConfigFile = Annotated[
    Path | None, typer.Option(callback=home, help="YAML with any of these settings; flags win over it")
]


def configured(
    kind: type[BaseModel], names: Iterable[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command has a flag for each field of ``kind`` and gets what was set as ``given``.

    Args:
        kind: the configuration.
        names: those of its fields that become flags; by default all. ``--set`` stands for ``settings``, always.
    """
    panels: dict[str, str] = {}
    panel = ""
    for name in kind.model_fields:
        panels[name] = panel = SECTIONS.get(name, panel)
    fields = {name: kind.model_fields[name] for name in names or panels if name != "settings"}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(set_: Settings = None, config: ConfigFile = None, threads: Threads = None, **values: Any) -> None:
            if threads is not None:
                torch.set_num_threads(validation.integer("threads", threads, least=1, most=MOST_THREADS))
            words = {name: values.pop(name) for name in fields}
            flags = {name: _read(fields[name], word) for name, word in words.items() if word is not None}
            command(given=_given(flags, set_ or [], config), **values)

        own = [option for name, option in inspect.signature(command).parameters.items() if name != "given"]
        *shared, threads, _ = inspect.signature(run).parameters.values()
        made = [_option(name, field, panels[name]) for name, field in fields.items()]
        functools.update_wrapper(run, command)
        run.__signature__ = inspect.Signature([*own, *shared, *made, threads])  # pyright: ignore[reportFunctionMemberAccess]
        return run

    return decorate


def _option(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    """The flag of a field, for Typer to read. None where it is not given; pydantic sees to its range and choices."""
    flag = f"--{name.replace('_', '-')}"
    kind = _word(field)
    option = typer.Option(f"{flag}/--no-{flag[2:]}" if kind is bool else flag, help=_help(field), rich_help_panel=panel)
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind | None, option]
    )


def _word(field: FieldInfo) -> type:
    """What a flag's word stands for: a bool, int or float where the field takes just that, text where it takes more."""
    kinds = [part for part in get_args(field.annotation) or (field.annotation,) if part is not NoneType]
    return kinds[0] if len(kinds) == 1 and kinds[0] in (bool, int, float) else str


def _read(field: FieldInfo, word: Any) -> Any:
    """The value of a flag; of a field that lists things, its parts between commas."""
    return split(word) if get_origin(field.annotation) is tuple else word


def _help(field: FieldInfo) -> str:
    """A field's description, with its choices, range and default."""
    parts = (field.annotation, *get_args(field.annotation))
    choices = [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    said = [field.description or "", " | ".join(choices)]
    lists = isinstance(field.default, tuple)
    default = ",".join(map(str, field.default)) if lists else str(field.default)
    notes = [] if field.default is None or _word(field) is bool else [f"default: {default}"]
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = {sign: getattr(rule, sign) for rule in field.metadata for sign in signs if hasattr(rule, sign)}
    notes += [f"{signs[sign]}{bound:g}" for sign, bound in bounds.items()]
    text = escape(": ".join(filter(None, said)))
    return f"{text} [dim]({', '.join(notes)})[/]" if notes else text


def _given(flags: dict[str, Any], pairs: list[str], file: Path | None) -> dict[str, Any]:
    """What the user set, in a file, by flags and by ``--set``."""
    values = (read_yaml(file) if file else {}) | flags
    settings = {name: dict(own) for name, own in (values.get("settings") or {}).items()}
    for pair in pairs:
        method, name, value = _pair(pair)
        settings.setdefault(method, {})[name] = value
    return values | {"settings": settings}


def _pair(text: str) -> tuple[str, str, Any]:
    name, equals, value = text.partition("=")
    method, dot, setting = name.partition(".")
    if not (equals and dot and method and setting):
        raise ValueError(f"--set {text!r} must read METHOD.SETTING=VALUE, for example --set adonis.sigma=1.5.")
    return method, setting, parse_yaml(value)


def checked(make: Callable[..., Any], given: dict[str, Any], kind: type[BaseModel]) -> Any:
    """``make(**given)``; what pydantic finds wrong is said in words, with the nearest name of ``kind``'s fields."""
    try:
        return make(**given)
    except ValidationError as error:
        raise ValueError(in_words(error, list(kind.model_fields))) from None


def split(text: str) -> list[str]:
    """The parts between commas, without the spaces around them and empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]
