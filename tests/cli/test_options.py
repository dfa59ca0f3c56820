"""The flags of each command: their names, made of the configuration's fields, and what they hand over."""

from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field

from leantrain.cli.app import app
from leantrain.cli.options import configured

TRAINING = """
    --data --limit --condition --condition-seed --test-limit --model --width --image-size --epochs --batch-size
    --optimizer --lr --momentum --nesterov --no-nesterov --weight-decay --schedule --warmup --milestones --factor
    --device --precision --channels-last --no-channels-last --compile --no-compile --resident --workers --nonfinite
    --unreadable --goal --class-floor --evaluate --checkpoint-seconds --set --config --threads
"""
COMPARISON = "--methods --seeds --note --show-class --control --controls --line"
FLAGS = {
    "compare": f"{TRAINING} {COMPARISON} --out --preset --scale --only --resume",
    "estimate": f"{TRAINING} --methods --seconds",
    "inspect": f"{TRAINING} --seconds --check-labels",
    "train": f"{TRAINING} --out --method --seed --record --resume",
    "demo": "--out",
    "report": "--data --show-class",
}


def test_the_flags_of_every_command():
    """Whoever adds, renames or removes a field of a configuration sees here which flags that changes."""
    group: Any = typer.main.get_command(app)
    flags = {
        name: {flag for option in command.params for flag in (*option.opts, *option.secondary_opts) if flag[0] == "-"}
        for name, command in group.commands.items()
    }
    assert flags == {name: set(words.split()) for name, words in FLAGS.items()}
    assert {flag for option in group.params for flag in option.opts} == {"--version", "--traceback"}


class Config(BaseModel):
    size: int | None = Field(default=None, ge=3, lt=9, description="of [it]")
    rate: float = 0.5
    twice: bool = True
    kind: Literal["a", "b"] = "a"
    either: Literal["auto"] | bool = "auto"
    parts: tuple[int, ...] = Field(default=(1, 2), description="in turn")
    settings: dict[str, dict[str, Any]] = {}


def call(*words: str, names: Any = ()) -> dict[str, Any]:
    """What a command with the flags of ``Config`` is given."""
    got: list[Any] = []
    small = typer.Typer()

    @small.command()
    @configured(Config, names)
    def command(given: dict[str, Any], own: int = 7) -> None:
        got.extend((given, own))

    small(list(words), standalone_mode=False)
    given, own = got
    assert own == (8 if "--own" in words else 7)
    return given


def test_flags_hand_over_what_was_given_and_no_more(tmp_path: Path):
    assert call() == {"settings": {}}
    words = "--own 8 --size 4 --rate 1e-3 --no-twice --kind zz --either true --parts 3,4, --set sb.beta=2 --set sb.a=x"
    given = call(*words.split())
    assert given == {
        "size": 4,
        "rate": 0.001,
        "twice": False,
        "kind": "zz",
        "either": "true",
        "parts": ["3", "4"],
        "settings": {"sb": {"beta": 2, "a": "x"}},
    }
    file = tmp_path / "c.yaml"
    file.write_text("size: 5\nrate: 2.0\nsettings: {sb: {beta: 1, c: 3}}\n")
    assert call("--config", str(file), "--size", "6", "--set", "sb.beta=2") == {
        "size": 6,
        "rate": 2.0,
        "settings": {"sb": {"beta": 2, "c": 3}},
    }


def test_only_the_named_fields_become_flags():
    assert call("--size", "4", names=["size"]) == {"size": 4, "settings": {}}
    with pytest.raises(Exception, match="No such option: --rate"):
        call("--rate", "4", names=["size"])


def test_the_help_says_description_choices_range_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    small = typer.Typer(rich_markup_mode="rich")
    small.command()(configured(Config)(lambda given: None))
    small(["--help"], standalone_mode=False)
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "--" in line}
    assert "of [it] (>=3, <9)" in lines["--size"]
    assert "(default: 0.5)" in lines["--rate"]
    assert "a | b (default: a)" in lines["--kind"]
    assert "in turn (default: 1,2)" in lines["--parts"]
    assert "default" not in lines["--twice"].replace("--no-twice", "")


@pytest.mark.parametrize("command", ["compare", "estimate", "inspect", "train", "demo", "report", ""])
def test_the_help_fits_80_columns_and_cuts_no_word(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    app([*command.split(), "--help"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
