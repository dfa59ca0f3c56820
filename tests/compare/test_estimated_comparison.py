"""The estimate of a comparison: its rows, its counts against real runs, and the command."""

import sys

import pytest

from leantrain import data
from leantrain.cli import app
from leantrain.compare import CompareConfig
from leantrain.compare.estimate import estimate
from leantrain.train.trainer import train

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def config(**changes):
    settings = {"forget": {"probe_epochs": 0.5}, "el2n": {"probe_epochs": 1}, "rho-loss": {"keep_ratio": 0.5}}
    given = {"limit": 150, "width": 4, "epochs": 3, "batch_size": 16, "device": "cpu", "settings": settings}
    return CompareConfig(**(given | changes))


def test_every_method_has_its_row(digits):
    settings = config(methods=("all", "ids+adonis"), class_floor=0.2)
    found = estimate(settings, digits, seconds=1)
    assert [row.method for row in found.forecasts] == list(settings.methods)
    assert found.size == 150
    assert all(0 < row.trained <= 1.2 and row.seconds > 0 for row in found.forecasts)
    before = {row.method for row in found.forecasts if row.preprocessing > 0}
    assert before == {"ids", "ssp", "forget", "el2n", "grand", "rho-loss", "ids+adonis"}


METHODS = ("rpc", "rpd", "rs2", "random-pb", "ids", "ssp", "forget", "el2n", "grad-match", "grad-match-pb", "rho-loss")


def test_the_counts_of_fixed_shares_are_those_of_the_trainer(digits):
    settings = config(methods=METHODS)
    found = {row.method: row for row in estimate(settings, digits, seconds=1).forecasts}
    for method in METHODS:
        facts = train(settings, digits, method, seed=0, evaluate=False).facts
        loaded = facts.loaded_samples - facts.aside.forward
        trained = facts.backward_samples - facts.aside.backward
        counts = [share * 150 * 3 for share in (found[method].trained, found[method].scored, found[method].loaded)]
        assert counts == pytest.approx([trained, facts.scored_samples, loaded]), method


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["leantrain", "estimate", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "300")
    try:
        app.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


SMALL = ("--limit", 150, "--width", 4, "--epochs", 3, "--batch-size", 16, "--device", "cpu", "--seconds", 0.5)


def test_the_command_shows_a_table_and_says_what_a_boost_is_not(monkeypatch, capsys):
    assert run(monkeypatch, *SMALL, "--methods", "infobatch,ids", "--set", "ids.keep_ratio=0.5") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("full", "infobatch", "ids", "rs2", "50.0 %", "bound"))
    assert "no gain in accuracy" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seconds", "0"), "seconds=0.0 must be a finite number above 0"),
        (("--methods", "ids2"), "Unknown method 'ids2'. Did you mean 'ids'?"),
        (("--methods", "rs2", "--set", "rs2.keep_ratio=40"), "For 40 % pass 0.4"),
        (("--methods", "rs2", "--set", "rs2.keep_ratio=0.01"), "fewer than one batch of 16"),
    ],
)
def test_bad_input_is_one_message(monkeypatch, capsys, words, message):
    assert run(monkeypatch, *SMALL, *words) == 2
    assert message in capsys.readouterr().err
