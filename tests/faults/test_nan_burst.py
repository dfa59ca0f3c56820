"""A burst of NaN: the run stops with the samples named and a checkpoint from before, or skips and counts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, command, one_paragraph, same  # noqa: F401 - a fixture
from safetensors.torch import load_file

from leantrain.checkpoint import format
from leantrain.train.session import Session

BURST = range(6, 9)  # steps, from 0


@pytest.fixture
def burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the steps of ``BURST`` the images are NaN: BatchNorm takes that into its statistics."""
    step, seen = Session._step, Session._prepare

    def stepping(self: Session, *args: Any) -> Any:
        self.bursts = self.loader.stats.steps + self.loader.stats.skipped_steps in BURST  # pyright: ignore
        try:
            return step(self, *args)
        finally:
            self.bursts = False  # pyright: ignore[reportAttributeAccessIssue]

    def prepare(self: Session, *args: Any) -> Any:
        images = seen(self, *args)
        return images * torch.nan if getattr(self, "bursts", False) else images

    monkeypatch.setattr(Session, "_step", stepping)
    monkeypatch.setattr(Session, "_prepare", prepare)


def newest(folder: Path) -> format.Checkpoint:
    found = format.load_latest(folder)
    assert found is not None
    return found


def sound(found: format.Checkpoint) -> bool:
    model: Any = found.state["session"]["model"]  # pyright: ignore
    return all(bool(value.isfinite().all()) for value in model.values())


@pytest.mark.usefixtures("burst")
@pytest.mark.parametrize("method", ["full", "stale-sb"])
def test_it_stops_and_may_go_on_skipping(method: str, command: Command, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "out"
    words = ("train", "--method", method, "--epochs", 5)
    code, said = command(*words, "--out", out)
    assert code == 1
    assert one_paragraph(said)
    assert "The training loss of sample [" in said
    assert f"The checkpoint of step 6 in {out / 'checkpoints'} is whole; --resume goes on from it." in said
    found = newest(out / "checkpoints")
    assert (found.step, sound(found)) == (6, True)
    assert command(*words, "--out", out, "--resume")[0] == 1  # nothing changed
    assert command(*words, "--out", out, "--resume", "--lr", 0.01)[0] == 2  # another run
    with pytest.warns(UserWarning, match="The step is skipped"):
        assert command(*words, "--out", out, "--resume", settings="nonfinite: skip")[0] == 0
    with pytest.warns(UserWarning, match="The step is skipped"):
        assert command(*words, "--out", tmp_path / "straight", settings="nonfinite: skip")[0] == 0
    same(out, tmp_path / "straight")
    facts = json.loads((out / "run.json").read_text())
    assert facts["skipped_steps"] == sum(row["skipped_steps"] for row in facts["epochs_done"]) == len(BURST)
    weights = load_file(out / "model.safetensors")
    assert any("running_var" in name for name in weights)
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_finite_losses_with_broken_gradients(command: Command, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    """The step that breaks the weights had finite losses; the next one's are NaN. No checkpoint is made in between."""
    step = Session._step

    def breaking(self: Session, *args: Any) -> Any:
        loss = step(self, *args)
        if self.loader.stats.steps == 7:
            with torch.no_grad():
                next(self.module.parameters()).view(-1)[0] = torch.nan
        return loss

    monkeypatch.setattr(Session, "_step", breaking)
    code, said = command("train", "--out", tmp_path / "out")
    assert code == 1
    assert one_paragraph(said)
    assert "A training step left NaN or infinity in" in said
    found = newest(tmp_path / "out" / "checkpoints")
    assert (found.step, sound(found)) == (6, True)


def test_too_high_a_learning_rate(command: Command, tmp_path: Path) -> None:  # noqa: F811
    code, said = command("train", "--out", tmp_path / "out", "--lr", 1e30)
    assert code == 1
    assert one_paragraph(said)
    assert sound(newest(tmp_path / "out" / "checkpoints"))


@pytest.mark.usefixtures("burst")
def test_a_comparison_may_go_on_skipping(command: Command, tmp_path: Path) -> None:  # noqa: F811
    words = ("compare", "--methods", "rs2", "--out", tmp_path / "out")
    code, said = command(*words)
    assert code == 1
    assert "The training loss of sample [" in said
    code, said = command(*words, "--resume", "--lr", 0.01, settings="nonfinite: skip")
    assert code == 2
    assert "lr 0.1 there, 0.01 here" in said
    assert "nonfinite" not in said
    with pytest.warns(UserWarning, match="The step is skipped"):
        assert command(*words, "--resume", settings="nonfinite: skip")[0] == 0
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [run["skipped_steps"] for run in runs if run["method"] == "full" and not run["control_for"]] == [len(BURST)]


@pytest.mark.usefixtures("burst")
def test_who_keeps_nan_gets_a_result(command: Command, tmp_path: Path) -> None:  # noqa: F811
    assert command("train", "--out", tmp_path / "out", settings="nonfinite: keep") == (0, "")
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["skipped_steps"] == 0
    assert [row["train_loss"] is None for row in facts["epochs_done"]] == [False, True, True]
