"""``leantrain`` in this process, and what two trainings left: shared by the tests of faults."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from leantrain.cli import app

SMALL = "limit: 150\nwidth: 4\nepochs: 3\nbatch_size: 32\ndevice: cpu\ncheckpoint_seconds: 0\n"


class Command:
    """Calls the command line; settings come from a file, ``SMALL`` and what is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder

    def __call__(self, *words: Any, settings: str = "") -> tuple[int, str]:
        """Exit code, and what it says on stderr."""
        file = self.folder / "settings.yaml"
        file.write_text(SMALL + settings)
        words = ("leantrain", *words, "--config", file)
        self.monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        self.monkeypatch.setenv("COLUMNS", "300")
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, self.capsys.readouterr().err


@pytest.fixture
def command(monkeypatch, capsys, tmp_path, shallow, undrawn):
    return Command(monkeypatch, capsys, tmp_path)


def same(ours: Path, theirs: Path) -> None:
    """Two finished trainings: bit-identical weights, and all facts but seconds."""
    mine, other = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        assert torch.equal(value, other[name]), name
    mine, other = (json.loads((folder / "run.json").read_text()) for folder in (ours, theirs))
    for fact in ("accuracy", "class_accuracy", "steps", "forward_samples", "backward_samples", "events"):
        assert mine[fact] == other[fact], fact
    for row, twin in zip(mine["epochs_done"], other["epochs_done"], strict=True):
        for fact in ("epoch", "accuracy", "train_loss", "lr", "trained", "scored"):
            assert row[fact] == twin[fact], fact


def one_paragraph(text: str) -> bool:
    return "Traceback" not in text and text.startswith("leantrain:") and text.strip().count("\n") == 0
