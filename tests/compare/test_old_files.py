"""What an earlier version wrote still loads: a comparison, a recording, the checkpoint of an interrupted training.

The files in ``old/`` are of version 0.1.0 as of its first 25 methods, on 60 digits; schema 1 of ``results.json``.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from leantrain import data, report
from leantrain.checkpoint.format import load_latest, save
from leantrain.checkpoint.manager import Checkpoints
from leantrain.compare import CompareConfig, compare
from leantrain.compare import runner as runner_module
from leantrain.report.results import load
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train

OLD = Path(__file__).parent / "old"
RESULTS = Path(__file__).parents[2] / "results"
SETTINGS = {"limit": 60, "width": 2, "batch_size": 16, "device": "cpu"}
TRAINED = TrainConfig(**SETTINGS, test_limit=60, epochs=3, settings={"infobatch": {"prune_ratio": 0.5}})


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=60, test_limit=60)


@pytest.fixture(scope="module")
def straight(digits):
    return train(TRAINED, digits, "infobatch", seed=0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of step 5 of 10, within the second of three epochs."""
    shutil.copytree(OLD / "checkpoint", tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def goes_on(folder: Path, digits, straight) -> None:
    steps = []
    checkpoints = Checkpoints(folder)
    after_step = checkpoints.after_step
    checkpoints.after_step = lambda state: (steps.append(1), after_step(state))[1]
    ended = train(TRAINED, digits, "infobatch", seed=0, checkpoints=checkpoints)
    assert len(steps) == 5
    for fact in ("accuracy", "class_accuracy", "steps", "backward_samples", "forward_samples", "events"):
        assert getattr(ended.facts, fact) == getattr(straight.facts, fact), fact
    assert [row["accuracy"] for row in ended.epochs] == [row["accuracy"] for row in straight.epochs]
    assert torch.equal(ended.trained, straight.trained)


def test_an_interrupted_training_goes_on_to_the_same_end(checkpoint, digits, straight):
    goes_on(checkpoint, digits, straight)


def test_a_checkpoint_from_before_a_setting_existed_goes_on_where_that_has_its_default(checkpoint, digits, straight):
    found = load_latest(checkpoint)
    assert found is not None

    def without(name: str) -> Path:
        config = {key: value for key, value in found.facts["config"].items() if key != name}
        folder = checkpoint.with_name(f"without-{name}")
        save(folder, found.state, step=found.step, facts=found.facts | {"config": config})
        return folder

    goes_on(without("evaluate"), digits, straight)
    with pytest.raises(ValueError, match=r"another run: its config is .*'test_limit': None.*'test_limit': 60"):
        train(TRAINED, digits, "infobatch", seed=0, checkpoints=Checkpoints(without("test_limit")))


def test_a_recording_is_replayed(digits, straight):
    settings = TRAINED.model_copy(update={"settings": {"replay": {"path": str(OLD / "recording")}}})
    again = train(settings, digits, "replay", seed=0)
    assert again.facts.settings["method"] == "InfoBatch"
    assert torch.equal(again.trained, straight.trained)


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    shutil.copytree(OLD / "comparison", tmp_path / "comparison")
    (tmp_path / "comparison" / "finished").rename(tmp_path / "comparison" / "runs")
    return tmp_path / "comparison"


@pytest.mark.parametrize("unknown", ["", "evaluate", "control"])
def test_a_finished_comparison_is_summarised_as_it_was(comparison, unknown, monkeypatch):
    config = CompareConfig(**SETTINGS, epochs=2, methods=("infobatch",), seeds=(0, 1))
    before = json.loads((comparison / "results.json").read_text())
    known = json.loads((comparison / "config.json").read_text())
    known["config"].pop(unknown, None)
    (comparison / "config.json").write_text(json.dumps(known))
    monkeypatch.setattr(runner_module, "train", lambda *_, **__: pytest.fail("a finished run was run again"))
    compare(config, data.load("digits", limit=60), comparison, resume=True)
    after = json.loads((comparison / "results.json").read_text())
    new = CompareConfig().model_dump(mode="json", include=after["config"].keys() - before["config"].keys())
    assert after["config"] == new | before["config"]  # a setting that did not exist had its default
    assert after["runs"] == [{"smaller": []} | run for run in before["runs"]]  # nor did smaller inputs
    for name in ("schema", "summary"):
        assert after[name] == before[name]
    changed = config.model_copy(update={"evaluate": "end"})
    with pytest.raises(ValueError, match=r"another configuration \(evaluate 'epoch' there, 'end' here\)"):
        compare(changed, data.load("digits", limit=60), comparison, resume=True)


def test_a_report_is_drawn_of_it(comparison):
    page = report.write(comparison).read_text(encoding="utf-8")
    assert "infobatch" in page
    assert "<svg" in page


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("results.json")), ids=lambda path: path.parent.name)
def test_committed_results_load_and_are_written_as_they_were(path: Path):
    content, found = json.loads(path.read_text()), load(path.parent)
    again = found.content()
    assert again["summary"] == content["summary"]
    for ours, theirs in zip(again["runs"], content["runs"], strict=True):
        assert {name: ours[name] for name in theirs} == theirs
