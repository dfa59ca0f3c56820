"""The configuration of a comparison."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from leantrain import methods
from leantrain.train.config import TrainConfig


class CompareConfig(TrainConfig):
    """What is compared. ``full`` and ``rs2`` are always among the methods: the baseline and the second control.

    ``all`` among the methods stands for every one that needs no recording, and no goal where none is said.
    """

    methods: tuple[str, ...] = Field(
        default=("full", "rs2", "infobatch"), description="all, or names between commas; + composes: ids+adonis"
    )
    seeds: tuple[int, ...] = Field(default=(0,), description="each method is trained once with each")
    note: str | None = Field(default=None, description="what a reader must know of it; stands in the report")
    show_class: str | None = Field(
        default=None, description="the class of whose samples the report shows some; by default the first"
    )
    control: Literal["run", "line"] = Field(
        default="run", description="a control for each method, or read off a line of a few that serve all"
    )
    controls: tuple[Literal["time", "work"], ...] = Field(default=("time",), description="what controls are cut to")
    line: tuple[float, ...] = Field(default=(0.3, 0.5, 0.7, 0.85), description="its shares of full training")

    @field_validator("line")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted({part for part in value if 0 < part < 1}) or not value:
            raise ValueError(
                f"give ascending shares between 0 and 1, not {_listed(value)}; full training itself is the end."
            )
        return value

    @field_validator("controls")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"give time, work or both, not {_listed(value)}.")
        return value

    @field_validator("methods")
    @classmethod
    def _known(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not value:
            raise ValueError(f"name at least one. Known: all, {', '.join(methods.METHODS)}.")
        lacks = {"goal"} if info.data.get("goal") is None else set()
        every = [name for name, kind in methods.METHODS.items() if name != "replay" and not kind.needs & lacks]
        value = tuple(name for given in value for name in (every if given == "all" else [given]))
        names = ["+".join(methods.parts(name)) for name in value]
        # Baseline first, then as asked for; each once.
        return tuple(dict.fromkeys(["full", *names, "rs2"]))

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 0 or len(set(value)) < len(value):
            raise ValueError(f"give one or more different whole numbers of at least 0, not {_listed(value)}.")
        return value


def _listed(value: tuple[object, ...]) -> str:
    return ",".join(map(str, value)) or "none"
