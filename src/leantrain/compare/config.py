"""The configuration of a comparison."""

from pydantic import Field, field_validator

from leantrain import methods
from leantrain.train.config import TrainConfig


class CompareConfig(TrainConfig):
    """What is compared. ``full`` and ``rs2`` are always among the methods: the baseline and the second control.

    ``all`` among the methods stands for every one that needs no recording.
    """

    methods: tuple[str, ...] = ("full", "rs2", "infobatch")
    seeds: tuple[int, ...] = Field(default=(0,), description="each method is trained once with each")

    @field_validator("methods")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one method")
        every = [name for name in methods.METHODS if name != "replay"]  # that one needs a recording
        value = tuple(name for given in value for name in (every if given == "all" else [given]))
        names = ["+".join(methods.parts(name)) for name in value]
        # Baseline first, then as asked for; each once.
        return tuple(dict.fromkeys(["full", *names, "rs2"]))

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 0 or len(set(value)) < len(value):
            raise ValueError("give one or more different whole numbers of at least 0")
        return value
