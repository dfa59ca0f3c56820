"""The configuration of a training, checked by pydantic. Shared by ``leantrain train`` and ``leantrain compare``."""

import math
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from leantrain import methods, schedule
from leantrain.data import conditions
from leantrain.utils import validation
from leantrain.utils.yaml_text import parse_yaml, read_yaml

__all__ = ["TrainConfig", "in_words", "parse_yaml", "read_yaml"]

# What a run that stopped may be resumed with otherwise: the steps done before would have been the same.
REMEDIES = {"nonfinite", "unreadable", "show_class"}

# Where the help of the commands begins a new panel; the fields up to the next belong to it.
SECTIONS = {
    "data": "Data and model",
    "epochs": "Training",
    "device": "Machine",
    "nonfinite": "Run",
    "methods": "Comparison",
}


class TrainConfig(BaseModel):
    """What a run trains and how; the method apart. The commands' flags are made of the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(default="digits", description="digits, or parquet, imagefolder, cifar10, cifar100 with :FOLDER")
    limit: int | None = Field(default=None, ge=2, description="use only that many training samples, classes balanced")
    condition: str = Field(
        default=conditions.CLEAN,
        description="of the training set: noise=0.2, noise=human-worst, repeated=0.1, crawled=0.3, long-tail=10, "
        "redundant=4, near-copies=0.3; + joins",
    )
    condition_seed: int = Field(default=0, ge=0, description="of what the condition draws; the same for all runs")
    test_limit: int | None = Field(default=None, ge=1, description="use only that many test samples, classes balanced")
    model: str = Field(default="small", description="small, resnet18-32, torchvision:NAME, timm:NAME ...")
    width: int | None = Field(
        default=None, ge=1, le=65536, description="channels of the first stage, for the built-in models"
    )
    image_size: int | None = Field(
        default=None, ge=4, le=16384, description="side in pixels; by default the data set's"
    )
    epochs: int = Field(default=20, ge=1, description="epochs of full training")
    batch_size: int = Field(default=128, ge=1, description="samples a batch")
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: float = Field(default=0.1, gt=0, description="peak learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD, as is nesterov")
    nesterov: bool = Field(default=True, description="look ahead by the momentum")
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["linear-peak", "cosine", "multistep", "constant"] = Field(
        default="linear-peak", description="of the learning rate"
    )
    warmup: float = Field(default=0.2, ge=0, lt=1, description="share of the training, for linear-peak and cosine")
    milestones: tuple[float, ...] = Field(default=(0.3, 0.6, 0.8), description="shares of the training, for multistep")
    factor: float = Field(default=0.2, gt=0, description="of the learning rate at each milestone")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = Field(default=False, description="memory layout of the images")
    compile: bool = Field(default=False, description="torch.compile the model")
    resident: Literal["auto"] | bool = Field(
        default="auto", description="keep the images on the device; auto: if they fit"
    )
    workers: int = Field(default=0, ge=0, le=1024, description="DataLoader worker processes")
    nonfinite: Literal["raise", "skip", "keep"] = Field(default="raise", description="losses that are NaN or infinite")
    unreadable: Literal["raise", "skip"] = Field(default="raise", description="samples that cannot be read")
    goal: Literal["balanced", "as-trained"] | None = Field(
        default=None, description="what the accuracy is for: classes that count the same, or as frequent as trained on"
    )
    class_floor: float | None = Field(default=None, gt=0, le=1, description="share of each class that is always kept")
    evaluate: Literal["epoch", "end"] = Field(default="epoch", description="test after each epoch, or after the last")
    checkpoint_seconds: float = Field(default=60, ge=0, description="between two checkpoints; 0 keeps every step")
    settings: dict[str, dict[str, Any]] = Field(default={}, description="of the methods, by method name")

    @field_validator("*")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        _check_numbers(value)
        return value

    @field_validator("settings")
    @classmethod
    def _known_methods(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in value:
            methods.parts(name)
        return value

    @field_validator("condition")
    @classmethod
    def _known_condition(cls, value: str) -> str:
        return conditions.canonical(value)

    def learning_rate(self) -> Callable[[float], float]:
        """Factor of ``lr`` as a function of progress."""
        if self.schedule == "linear-peak":
            return schedule.linear_peak(self.warmup)
        if self.schedule == "cosine":
            return schedule.cosine(self.warmup)
        if self.schedule == "multistep":
            return schedule.multistep(self.milestones, self.factor)
        return schedule.constant()


def with_defaults(kind: type[TrainConfig], there: Any, here: dict[str, Any]) -> Any:
    """``there``, as an earlier version kept it, with the defaults of those settings in its ``config`` it did not know.

    ``here`` is what it is compared with; ``kind`` its configuration. What holds no configuration stays as it is.
    """
    if not (isinstance(there, dict) and isinstance(there.get("config"), dict)):
        return there
    defaults = kind().model_dump(mode="json")
    return there | {"config": {name: defaults[name] for name in here["config"]} | there["config"]}


def _check_numbers(value: Any, place: str = "") -> None:
    """ValueError for a number within ``value`` that torch or JSON cannot hold."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in pairs:
            _check_numbers(part, f"{place}.{name}".lstrip("."))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place and f'{place}='}{value} must be finite.")
    elif isinstance(value, int) and abs(value) > validation.LARGEST:
        raise ValueError(f"{place and f'{place}='}{value} is more than an integer of 64 bits holds.")


def in_words(error: ValidationError, fields: list[str]) -> str:
    """A validation error as one line a setting: what was given, what was expected, the nearest name."""
    from difflib import get_close_matches

    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        given, said = f"{place}={item['input']!r}", f"{item['msg']}."
        if item["type"] == "extra_forbidden":
            near = get_close_matches(place, fields, n=1, cutoff=0.5)
            said = "Unknown setting." + (f" Did you mean {near[0]!r}?" if near else "")
        elif item["type"] == "value_error":  # a sentence of ours, which says what was given
            given, said = place, item["msg"].removeprefix("Value error, ")
        lines.append(f"{given}: {said}" if place else said)
    return "\n".join(lines)
