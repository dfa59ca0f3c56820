"""The options that the commands share, as Typer reads them, and the configuration that they make."""

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[
    str | None, typer.Option(help="digits, parquet:DIR, imagefolder:DIR, cifar10:DIR or cifar100:DIR [default: digits]")
]
Limit = Annotated[int | None, typer.Option(help="use only that many training samples")]
Condition = Annotated[
    str | None,
    typer.Option(
        help="of the training set: noise=0.2, redundant=4, repeated=0.1, long-tail=10; + joins [default: clean]"
    ),
]
Model = Annotated[str | None, typer.Option(help="small, resnet18-32, torchvision:NAME, timm:NAME ... [default: small]")]
Width = Annotated[int | None, typer.Option(help="channels of the first stage, for the built-in models")]
Methods = Annotated[str | None, typer.Option(help="comma-separated, or all; + composes: full,ids+adonis")]
Epochs = Annotated[int | None, typer.Option(help="epochs of full training [default: 20]")]
BatchSize = Annotated[int | None, typer.Option(help="[default: 128]")]
Optimizer = Annotated[str | None, typer.Option(help="sgd, adam, adamw or rmsprop [default: sgd]")]
Rate = Annotated[float | None, typer.Option(help="peak learning rate [default: 0.1]")]
Decay = Annotated[float | None, typer.Option(help="weight decay [default: 0.0005]")]
Schedule = Annotated[str | None, typer.Option(help="linear-peak, cosine, multistep or constant [default: linear-peak]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda [default: auto]")]
Precision = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16 [default: fp32]")]
ChannelsLast = Annotated[bool | None, typer.Option("--channels-last/--no-channels-last", help="memory layout")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile the model")]
Workers = Annotated[int | None, typer.Option(help="DataLoader worker processes [default: 0]")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads that torch uses [default: all cores]")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="METHOD.SETTING=VALUE, e.g. adonis.sigma=1.5; repeatable"),
]
Floor = Annotated[float | None, typer.Option(help="share of each class that every method keeps")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML with any of these settings; flags win over it")]


def configure(kind: Any, flags: dict[str, Any], pairs: list[str] | None, file: Path | None) -> Any:
    return checked(kind, given(flags, pairs, file), kind)


def given(flags: dict[str, Any], pairs: list[str] | None, file: Path | None) -> dict[str, Any]:
    """What the user set, in a file or by flags."""
    from leantrain.train.config import read_yaml

    values = (read_yaml(file) if file else {}) | flags
    settings = {name: dict(own) for name, own in (values.get("settings") or {}).items()}
    for pair in pairs or []:
        method, name, value = _pair(pair)
        settings.setdefault(method, {})[name] = value
    return values | {"settings": settings}


def checked(make: Any, given: dict[str, Any], kind: Any) -> Any:
    """``make(**given)``; what pydantic finds wrong is said in words, with the nearest name of ``kind``'s fields."""
    from pydantic import ValidationError

    from leantrain.train.config import in_words

    try:
        return make(**given)
    except ValidationError as error:
        raise ValueError(in_words(error, list(kind.model_fields))) from None


def _pair(text: str) -> tuple[str, str, Any]:
    from leantrain.train.config import parse_yaml

    name, equals, value = text.partition("=")
    method, dot, setting = name.partition(".")
    if not (equals and dot and method and setting):
        raise ValueError(f"--set {text!r} must read METHOD.SETTING=VALUE, for example --set adonis.sigma=1.5.")
    return method, setting, parse_yaml(value)


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
