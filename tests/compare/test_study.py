"""A preset run whole: recordings made once, comparisons that replay them, speed-ups re-computed by plain loops."""

import json

import pytest

from leantrain import data
from leantrain.compare.presets import CACHED_GRAD_MATCH, PRESETS, Preset, Table
from leantrain.compare.study import configs, run_study, speedups

CHANGES = {"data": "digits", "limit": 150, "model": "small", "width": 4, "epochs": 3, "batch_size": 32, "device": "cpu"}
SMALL = Preset(
    source="a test",
    data="digits",
    base={"lr": 0.1, "settings": {"grad-match": {"keep_ratio": 0.5, "select_every": 2}, "rs2": {"keep_ratio": 0.5}}},
    recordings={"first": ("grad-match", {"lr": 0.05})},
    comparisons={
        "a": {"methods": ("grad-match", "replay@first")},
        "b": {"methods": ("replay@first",), "seeds": (0, 1)},
    },
    tables=(
        Table("letter", {"A": "a", "B": "b"}, {"cached": "replay@first"}, {"cached": {"A": 7.92}}),
        Table("only A", {"A": "a"}, {"grad-match": "grad-match"}),
    ),
)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def test_a_study_records_once_replays_and_resumes(digits, tmp_path):
    told = []

    def announce(what, config):
        told.append(what)

    study = run_study(SMALL, CHANGES, lambda _: digits, tmp_path, announce=announce)
    assert told == ["recording first: grad-match", "a", "b"]
    assert json.loads((tmp_path / "study.json").read_text()) == study
    a, b = (json.loads((tmp_path / name / "results.json").read_text()) for name in "ab")
    replays = [run for run in a["runs"] + b["runs"] if run["method"] == "replay@first"]
    assert len(replays) == 3
    recorded = next(run["backward_samples"] for run in a["runs"] if run["method"] == "grad-match")
    for run in replays:
        assert (run["backward_samples"], run["forward_samples"]) == (recorded, recorded)
        assert run["settings"]["method"] == "GradMatch"
    first, second = study["tables"]
    assert first["rows"]["cached"]["A"]["printed"] == 7.92
    assert first["rows"]["cached"]["B"]["printed"] is None
    assert list(second["rows"]) == ["grad-match"]

    again = run_study(SMALL, CHANGES, lambda _: digits, tmp_path, resume=True)
    assert again["recording_seconds"] == study["recording_seconds"]  # nothing was run again
    assert again["tables"] == study["tables"]
    with pytest.raises(ValueError, match="--resume"):
        run_study(SMALL, CHANGES, lambda _: digits, tmp_path)
    with pytest.raises(ValueError, match="recording of another configuration"):
        run_study(SMALL, CHANGES | {"epochs": 2}, lambda _: digits, tmp_path, resume=True)


def test_a_recording_that_was_cut_short_is_made_again(digits, tmp_path, monkeypatch):
    from leantrain.compare import study as module

    def stopped(*args, **kwargs):
        train(*args, **kwargs)
        raise KeyboardInterrupt

    train = module.train
    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_study(SMALL, CHANGES, lambda _: digits, tmp_path)
    assert list((tmp_path / "recordings" / "first").iterdir())
    monkeypatch.setattr(module, "train", train)
    assert run_study(SMALL, CHANGES, lambda _: digits, tmp_path)["tables"]


def made(method, seed, seconds, accuracies, control_for=None, preprocess=0.0):
    """A run of as many steps as seconds: with pooled costs of 1 s a sample, modelled time is measured time."""
    count = len(accuracies)
    points = [{"epoch": i, "train_seconds": seconds * (i + 1) / count, "accuracy": a} for i, a in enumerate(accuracies)]
    return {
        "method": method,
        "control_for": control_for,
        "seed": seed,
        "trajectory": points,
        "train_seconds": seconds,
        "preprocess_seconds": preprocess,
        "loaded_samples": 0,
        "scored_samples": 0,
        "backward_samples": seconds,
        "costs": {"fetch": 0.0, "score": None, "step": 1.0, "decide": 0.0},
    }


def test_speedups_by_hand():
    runs = [
        made("full", 0, 100, [0.2, 0.5, 0.6, 0.8]),
        made("full", 1, 100, [0.2, 0.3, 0.6, 0.8]),
        made("fast", 0, 40, [0.3, 0.7], preprocess=10),
        made("fast", 1, 40, [0.6, 0.5], preprocess=10),
        made("full", 0, 50, [0.1, 0.65], control_for="fast"),
        made("full", 1, 50, [0.62, 0.7], control_for="fast"),
    ]
    level, ours, controls = speedups(runs, ["fast"])
    assert level == 0.6  # the best of the second seed of `fast`, lower than that of any other run
    full = (75 + 75) / 2
    assert ours == {"fast": pytest.approx(full / ((40 + 10 + 20 + 10) / 2))}
    assert controls == {"fast": pytest.approx(full / ((50 + 25) / 2))}


def test_the_source_s_tables_stand_in_the_preset():
    tables = {table.title.split(":")[0]: table for table in CACHED_GRAD_MATCH.tables}
    assert tables["learning rate"].printed["cached-grad-match"] == {"0.001": 1.0, "0.003": 0.99, "0.03": 7.92}
    assert tables["optimizer"].printed["grad-match"] == {"Adam": 0.83, "RMSProp": 0.81, "SGD": 3.07}
    assert tables["architecture"].printed["cached-grad-match-warm"] == {"ResNet": 4.51}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_whole(name, tmp_path):
    preset = PRESETS[name]
    made = configs(preset, CHANGES, tmp_path)
    for table in preset.tables:
        for comparison in table.columns.values():
            assert set(table.rows.values()) <= set(made[comparison].methods)
        assert set(table.printed) <= set(table.rows)
    for config in made.values():
        for method in config.methods:
            if method.startswith("replay@"):
                assert method.removeprefix("replay@") in preset.recordings
                assert config.settings[method]["path"].startswith(str(tmp_path))
    with pytest.raises(ValueError, match=r"made for .*CIFAR-10\. Say where it is"):
        configs(preset, {}, tmp_path)


LINE = Preset(
    source="a test",
    data="digits",
    base={"limit": 100, "seeds": (0, 1, 2), "control": "line", "line": (0.4, 0.7), "settings": {}},
    recordings={},
    comparisons={"clean": {}, "tail": {"condition": "long-tail=3", "limit": 200, "methods": ("infobatch",)}},
    matrix=True,
)


def test_conditions_have_folders_of_their_own_and_one_matrix(digits, tmp_path):
    changes = {"data": "digits", "limit": 50, "width": 4, "epochs": 2, "batch_size": 16, "methods": ("rs2",)}
    seen = []

    def load(config):
        seen.append(config.limit)
        return data.load("digits", limit=config.limit)

    study = run_study(LINE, changes | {"device": "cpu"}, load, tmp_path)
    assert seen == [50, 100]  # the tail has twice the images of the base's, whatever the base's are
    tail = json.loads((tmp_path / "tail" / "results.json").read_text())
    assert tail["config"]["condition"] == "long-tail=3"
    assert study["matrix"]["tail"]["rows"] == tail["summary"]
    assert {row["method"] for row in study["matrix"]["clean"]["rows"]} == {"full", "rs2"}
    assert json.loads((tmp_path / "study.json").read_text()) == study
    with pytest.raises(ValueError, match=r"Unknown comparison 'tails'. Did you mean 'tail'"):
        run_study(LINE, changes, load, tmp_path, only=["tails"])
    only = run_study(LINE, changes | {"device": "cpu"}, load, tmp_path, only=["tail"], resume=True)
    assert set(only["matrix"]) == {"tail"}
