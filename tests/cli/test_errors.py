"""Bad input is one line and exit code 2; a bug of ours shows its traceback, asks to be reported and exits with 1."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from test_cli import run

import leantrain
from leantrain.cli import commands, errors
from leantrain.data import load
from leantrain.utils import validation

TRAIN = ("train", "--limit", "40", "--width", "4", "--epochs", "1", "--device", "cpu", "--batch-size", "20")


class Config(BaseModel):
    size: int


def our_check():
    validation.fraction("share", 7)


def our_check_noted_and_raised_again():
    try:
        validation.fraction("share", 7)
    except ValueError as error:
        error.add_note("Read again.")
        raise


INPUT = {
    "our check": our_check,
    "noted": our_check_noted_and_raised_again,
    "pydantic": lambda: Config(size="x"),  # pyright: ignore[reportArgumentType]
    "no file": lambda: Path("nowhere").read_text(),
    "no data": lambda: load("parquet:nowhere"),
    "no package": lambda: __import__("no_such_package"),
}
BUGS = {
    "python": lambda: validation.portion("a", 2),  # pyright: ignore[reportArgumentType]  # TypeError in our code
    "torch": lambda: leantrain.schedule.cosine(0.2)(torch.ones(2)),  # ValueError or RuntimeError within torch
    "number": lambda: validation.one_of("name", "x", 3),  # pyright: ignore[reportArgumentType]
    "no module of ours": lambda: __import__("leantrain.nowhere"),
    "key": lambda: {}["x"],
    "assert": lambda: torch.testing.assert_close(1, 2),
}


def met(act) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("kind", INPUT)
def test_bad_input_is_one_line(kind, capsys):
    error = met(INPUT[kind])
    assert errors.end(error, traced=False) == 2
    said = capsys.readouterr().err
    assert said.startswith("leantrain: ")
    assert str(error) in said
    assert "Traceback" not in said
    assert "bug" not in said
    assert errors.end(error, traced=True) == 2
    traced = capsys.readouterr().err
    assert traced.startswith("Traceback")
    assert traced.endswith(said)


@pytest.mark.parametrize("kind", BUGS)
def test_a_bug_looks_like_one(kind, capsys):
    error = met(BUGS[kind])
    error.add_note("The checkpoint is whole.")
    assert errors.end(error, traced=False) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert f"leantrain: {type(error).__name__}: {error} The checkpoint is whole.\nThis is a bug of leantrain" in said
    assert "Please report it" in said


@pytest.mark.parametrize("error", [MemoryError("too much"), torch.OutOfMemoryError("too much"), OSError(28, "full")])
def test_a_run_that_failed_is_one_line_and_1(error, capsys):
    assert errors.end(met(lambda: (_ for _ in ()).throw(error)), traced=False) == 1
    said = capsys.readouterr().err
    assert said.startswith("leantrain: ")
    assert "bug" not in said


class Bad(torch.utils.data.Dataset):
    """A data set whose samples are refused by a check of ours, or meet a bug."""

    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.act()


@pytest.mark.parametrize(("act", "code"), [(our_check, 2), (BUGS["python"], 1)])
def test_the_same_holds_of_an_error_in_a_worker(act, code, capsys):
    error = met(lambda: list(torch.utils.data.DataLoader(Bad(act), num_workers=1)))
    assert errors.end(error, traced=False) == code
    said = capsys.readouterr().err
    if code == 2:
        assert (
            said == "leantrain: ValueError: share=7 is outside (0, 1]. It is a share of the whole. For 7 % pass 0.07.\n"
        )
    else:
        assert "This is a bug of leantrain" in said


def test_traceback_is_shown_before_and_after_the_command(monkeypatch, tmp_path, capsys):
    words = [*TRAIN, "--out", tmp_path, "--method", "adonsi"]
    assert run(monkeypatch, *words) == 2
    assert "Traceback" not in capsys.readouterr().err
    for asked in (["--traceback", *words], [*words, "--traceback"]):
        assert run(monkeypatch, *asked) == 2
        said = capsys.readouterr().err
        assert "raise ValueError" in said
        assert "leantrain: Unknown method 'adonsi'" in said


def test_a_bug_in_a_command_ends_with_1_and_keeps_the_note(monkeypatch, tmp_path, capsys):
    def broken(config):
        return len(None)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(commands, "read_data", broken)
    assert run(monkeypatch, *TRAIN, "--out", tmp_path) == 1
    said = capsys.readouterr().err
    assert "return len(None)" in said
    assert "This is a bug of leantrain" in said


def test_the_version_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["leantrain", "--version"])
    runpy.run_module("leantrain", run_name="__main__")  # as python -m leantrain; ends without an error
    assert capsys.readouterr().out == f"leantrain {leantrain.__version__}\n"
