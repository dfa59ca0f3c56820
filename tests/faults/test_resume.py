"""A training that is stopped at any step and resumed ends as the straight one: same samples, bit-identical weights."""

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import Command, command  # noqa: F401 - a fixture

from leantrain import data
from leantrain.checkpoint.manager import Checkpoints
from leantrain.cli import app
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train

pytestmark = pytest.mark.usefixtures("shallow")

SETTINGS = {
    "adonis": {"theta": "auto", "stale_epochs": 2},
    "forget": {"probe_epochs": 1},
    "grad-match": {"select_every": 2},
    "rho-loss": {"holdout_epochs": 1, "keep_ratio": 0.5, "scoring_batches": 2},
}


class Stopped(Exception):
    pass


class StopAt(Checkpoints):
    """Keeps every ``every``-th step and stops the run at step ``stop``, as a kill would."""

    def __init__(self, folder: Path, stop: int, every: int) -> None:
        super().__init__(folder)
        self.stop, self.every, self.count = stop, every, 0

    def after_step(self, state):
        self.count += 1
        self.seconds = 0.0 if self.count % self.every == 0 else 1e9
        super().after_step(state)
        if self.count == self.stop:
            raise Stopped


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def config(**changes) -> TrainConfig:
    known = {"limit": 150, "width": 4, "epochs": 4, "batch_size": 32, "device": "cpu", "settings": SETTINGS}
    return TrainConfig(**known | changes)


def same(ours, theirs) -> None:
    assert torch.equal(ours.trained, theirs.trained)
    for (name, mine), other in zip(ours.model.state_dict().items(), theirs.model.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name
    for row, other in zip(ours.epochs, theirs.epochs, strict=True):
        # Seconds apart, and but for the samples of an open batch, which are read again.
        for fact in ("epoch", "accuracy", "train_loss", "lr", "trained", "scored"):
            assert row[fact] == other[fact]
    for fact in ("forward_samples", "backward_samples", "steps", "events", "class_accuracy"):
        assert getattr(ours.facts, fact) == getattr(theirs.facts, fact)


STOPPED = ["full", "adonis", "sb", "kakurenbo", "grad-match", "rho-loss", "ids+sb", "forget"]


@pytest.mark.parametrize(
    ("method", "workers"),
    [
        *((method, 0) for method in STOPPED),
        *(pytest.param(method, 2, marks=() if method == "adonis" else pytest.mark.slow) for method in STOPPED),
    ],
)
def test_a_stopped_training_ends_as_the_straight_one(digits, tmp_path, method, workers):
    settings = config(workers=workers)
    straight = train(settings, digits, method, seed=3)
    steps = straight.facts.steps
    for number, (stop, every) in enumerate([(steps // 3, 2), (steps - 1, 1)] if workers == 0 else [(steps // 2, 3)]):
        folder = tmp_path / str(number)
        with pytest.raises(Stopped):
            train(settings, digits, method, seed=3, checkpoints=StopAt(folder, stop, every))
        assert any(folder.iterdir())
        same(train(settings, digits, method, seed=3, checkpoints=Checkpoints(folder)), straight)


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"optimizer": "adam", "lr": 0.003}, {"class_floor": 0.3}])
def test_with_other_options(digits, tmp_path, options):
    settings = config(**options)
    straight = train(settings, digits, "stale-sb", seed=0)
    with pytest.raises(Stopped):
        train(settings, digits, "stale-sb", seed=0, checkpoints=StopAt(tmp_path, 9, 1))
    same(train(settings, digits, "stale-sb", seed=0, checkpoints=Checkpoints(tmp_path)), straight)


def test_a_model_with_dropout_drops_the_same(digits, tmp_path, monkeypatch):
    from leantrain.tasks.image_classification import models

    def build(*args, **kwargs):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 10))

    monkeypatch.setattr(models, "build", build)
    straight = train(config(lr=0.01), digits, "sb", seed=0)
    with pytest.raises(Stopped):
        train(config(lr=0.01), digits, "sb", seed=0, checkpoints=StopAt(tmp_path, 7, 1))
    torch.manual_seed(99)
    same(train(config(lr=0.01), digits, "sb", seed=0, checkpoints=Checkpoints(tmp_path)), straight)


def test_a_recording_goes_on_too(digits, tmp_path):
    settings = config()
    train(settings, digits, "sb", seed=0, record=tmp_path / "straight")
    with pytest.raises(Stopped):
        train(settings, digits, "sb", seed=0, record=tmp_path / "cut", checkpoints=StopAt(tmp_path / "c", 8, 1))
    train(settings, digits, "sb", seed=0, record=tmp_path / "cut", checkpoints=Checkpoints(tmp_path / "c"))
    import pyarrow.parquet as pq

    for part in sorted((tmp_path / "straight").glob("*.parquet")):
        assert pq.read_table(part).equals(pq.read_table(tmp_path / "cut" / part.name)), part.name


def test_checkpoints_of_another_run_are_refused(digits, tmp_path):
    with pytest.raises(Stopped):
        train(config(), digits, "sb", seed=0, checkpoints=StopAt(tmp_path, 3, 1))
    for changes, seed, method, what in (
        ({}, 1, "sb", "seed"),
        ({}, 0, "rs2", "method"),
        ({"lr": 0.2}, 0, "sb", "config"),
    ):
        with pytest.raises(ValueError, match=f"checkpoints of another run: its {what} is"):
            train(config(**changes), digits, method, seed=seed, checkpoints=Checkpoints(tmp_path))


def leantrain(words: tuple[str, ...], said: Path) -> None:
    """The command line in this process, a fork; what it says goes into a file."""
    with said.open("w", buffering=1) as sys.stdout:
        sys.stderr, sys.argv = sys.stdout, ["leantrain", *words]
        app.main()


def test_sigterm_keeps_the_run_and_exits_with_143(command: Command, tmp_path):  # noqa: F811
    small = ("--limit", "300", "--width", "4", "--epochs", "400", "--batch-size", "32", "--device", "cpu")
    words = ("train", "--out", str(tmp_path / "t"), "--method", "sb", *small, "--threads", "1")
    said = tmp_path / "said"
    said.touch()
    process = multiprocessing.get_context("fork").Process(target=leantrain, args=(words, said))
    process.start()
    while process.is_alive() and "\nepoch   2" not in said.read_text():
        time.sleep(0.02)
    process.terminate()
    process.join(60)
    assert process.exitcode == 143, said.read_text()
    assert "--resume" in said.read_text()
    assert len(list((tmp_path / "t" / "checkpoints").iterdir())) == 1
    code, error = command(*words)
    assert code == 2
    assert "holds an interrupted training. Pass --resume" in error


def killed(methods: list[str], endings: int, kills: int, folder: Path) -> dict:
    """What the harness says, run as a program: forking this process, which has threads, would not be safe."""
    harness, out = Path(__file__).with_name("kills.py"), folder / "kills.json"
    program = [sys.executable, str(harness), "--endings", str(endings), "--kills", str(kills), "--out", str(out)]
    done = subprocess.run([*program, "--methods", *methods], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_kills_at_random_moments(tmp_path):
    found = killed(["sb", "kakurenbo"], 1, 1, tmp_path)
    assert (found["endings"], found["kills"], found["differences"]) == (6, 6, 0)  # in three loops


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_endings_over_all_methods(tmp_path):
    found = killed([], 2, 1, tmp_path)
    assert found["endings"] >= 100
    assert found["kills"] >= 100
    assert found["differences"] == 0
