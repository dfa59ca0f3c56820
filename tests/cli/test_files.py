"""What the commands leave alone: finished runs, files and folders of the user's, recordings that they did not make."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import SMALL, run

from leantrain import data
from leantrain.compare.presets import Preset, runner
from leantrain.compare.presets.runner import run_study

pytestmark = pytest.mark.usefixtures("shallow", "undrawn")
TRAIN = ("train", *SMALL, "--method", "rs2")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its place in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_training_is_not_overwritten(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, *TRAIN, "--out", out) == 0
    before = contents(out)
    assert set(before) == {"run.json", "model.safetensors"}
    assert run(monkeypatch, *TRAIN, "--out", out) == 2
    assert (
        f"{out} holds a finished training (run.json, model.safetensors). Give another --out" in capsys.readouterr().err
    )
    assert run(monkeypatch, *TRAIN, "--out", out, "--seed", "7", "--resume") == 2
    assert "of another run: its seed is 0. Give another --out" in capsys.readouterr().err
    assert run(monkeypatch, *TRAIN, "--out", out, "--lr", "0.5", "--resume") == 2
    assert "of another run: its config is" in capsys.readouterr().err
    assert run(monkeypatch, *TRAIN, "--out", out, "--unreadable", "skip", "--resume") == 0  # no other run by that
    assert "holds this training already, finished" in capsys.readouterr().out
    assert contents(out) == before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
@pytest.mark.parametrize("name", ["model.safetensors", "run.json"])
def test_a_file_of_the_user_s_with_a_name_of_ours_stays(monkeypatch, tmp_path, capsys, name, resume):
    (tmp_path / name).write_text("[1]")
    assert run(monkeypatch, *TRAIN, "--out", tmp_path, *resume) == 2
    assert "Give another --out" in capsys.readouterr().err
    assert contents(tmp_path) == {name: b"[1]"}


def test_what_lies_among_the_checkpoints_stays(monkeypatch, tmp_path, capsys):
    theirs = {
        "best.ckpt": b"weeks",
        "epochs/notes.txt": b"mine",
        "step-000000001/optimizer.pt": b"theirs",
        "step-notes/a": b"b",
        ".hidden": b"c",
    }
    for name, content in theirs.items():
        place = tmp_path / "checkpoints" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    assert run(monkeypatch, *TRAIN, "--out", tmp_path, "--resume") == 2  # a checkpoint of which nothing is whole
    assert "No checkpoint is whole" in capsys.readouterr().err
    assert contents(tmp_path / "checkpoints") == theirs
    (tmp_path / "checkpoints" / "step-000000001" / "optimizer.pt").rename(tmp_path / "checkpoints" / "optimizer.pt")
    (tmp_path / "checkpoints" / "step-000000001").rmdir()
    words = (*TRAIN, "--out", tmp_path, "--resume", "--checkpoint-seconds", "0")  # writes and removes one every step
    assert run(monkeypatch, *words) == 0
    theirs["optimizer.pt"] = theirs.pop("step-000000001/optimizer.pt")
    assert contents(tmp_path / "checkpoints") == theirs
    assert (tmp_path / "model.safetensors").exists()


STUDY = Preset(
    source="a test",
    data="digits",
    base={"limit": 40, "width": 4, "epochs": 1, "batch_size": 20, "device": "cpu"},
    recordings={"one": ("rs2", {})},
    comparisons={"replayed": {"methods": ("replay@one",)}},
)


def study(out: Path) -> dict:
    return run_study(
        STUDY, {"data": "digits"}, lambda config: data.load("digits", limit=config.limit), out, resume=True
    )


@pytest.mark.parametrize("name", ["epoch-00000.parquet", "notes.txt"])
def test_a_recording_that_the_study_did_not_make_stays(tmp_path, name):
    place = tmp_path / "recordings" / "one"
    place.mkdir(parents=True)
    (place / name).write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty, and this experiment did not fill it\. Give another --out"):
        study(tmp_path)
    assert contents(place) == {name: b"mine"}


def test_an_interrupted_recording_is_made_anew_beside_what_else_lies_there(monkeypatch, tmp_path):
    place = tmp_path / "recordings" / "one"
    real = runner.train

    def interrupted(*args, **options):
        real(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path)
    assert set(contents(place)) == {"epoch-00000.parquet"}
    (place / "notes.txt").write_text("mine")
    monkeypatch.undo()
    assert study(tmp_path)["recording_seconds"]["one"] > 0
    assert contents(place)["notes.txt"] == b"mine"
    assert (
        study(tmp_path)["recording_seconds"] == json.loads((tmp_path / "study.json").read_text())["recording_seconds"]
    )


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "[1]"])
def test_the_demo_replaces_no_folder_that_is_not_a_comparison_s(monkeypatch, tmp_path, capsys, content):
    (tmp_path / "config.json").write_text(content)
    assert run(monkeypatch, "demo", "--out", tmp_path) == 2
    assert "config.json is no comparison's" in capsys.readouterr().err
    assert contents(tmp_path) == {"config.json": content.encode()}


def test_a_report_opens_only_the_data_that_the_user_names(monkeypatch, tmp_path, capsys):
    out, folder = tmp_path / "out", tmp_path / "images"
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for i in range(10):
                pixels = np.random.default_rng([i, len(split), len(label), ord(label[0])]).integers(0, 255, (12, 12, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / label / f"{i}.png")
    words = ("--width", "4", "--epochs", "2", "--batch-size", "10", "--device", "cpu", "--methods", "sb")
    assert run(monkeypatch, "compare", "--out", out, "--data", f"imagefolder:{folder}", *words) == 0
    capsys.readouterr()
    page = out / "report.html"
    pictures = page.read_text().count("data:image/png")
    assert pictures > 10
    assert run(monkeypatch, "report", out) == 0
    assert f"No pictures. For those say where the data set is: --data imagefolder:{folder}" in capsys.readouterr().out
    without = page.read_text().count("data:image/png")
    assert without < pictures
    assert run(monkeypatch, "report", out, "--data", "digits") == 2
    assert "--data digits is not what the results" in capsys.readouterr().err
    assert page.read_text().count("data:image/png") == without
    assert run(monkeypatch, "report", out, "--data", f"imagefolder:{folder}") == 0
    assert page.read_text().count("data:image/png") == pictures
    results = json.loads((out / "results.json").read_text())
    results["config"]["condition_seed"] = "seven"
    (out / "results.json").write_text(json.dumps(results))
    assert run(monkeypatch, "report", out, "--data", f"imagefolder:{folder}") == 2
    assert "condition_seed='seven'" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    (home / "c.yaml").write_text("width: 4\n")
    assert run(monkeypatch, *TRAIN, "--out=~/run", "--record=~/picks", "--config=~/c.yaml") == 0
    again = ("train", *SMALL, "--method", "replay", "--set", "replay.path=~/picks", "--out", "~/again")
    assert run(monkeypatch, *again) == 0
    assert {path.name for path in home.iterdir()} == {"run", "picks", "c.yaml", "again"}
    assert not list(here.iterdir())
