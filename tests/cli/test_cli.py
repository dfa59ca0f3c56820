"""The command line as a stranger meets it: one message for bad input, exit codes, flags over the file's settings."""

import json
import re
import sys

import pytest

from leantrain.cli import app
from leantrain.data import load
from leantrain.utils import memory

pytestmark = pytest.mark.usefixtures("shallow")


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["leantrain", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "300")
    try:
        app.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


SMALL = ("--limit", "100", "--width", "4", "--epochs", "2", "--batch-size", "32", "--device", "cpu")


def test_compare_writes_what_it_promises(monkeypatch, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("compare", "--out", out, *SMALL, "--methods", "infobatch", "--set", "infobatch.prune_ratio=0.3")
    assert run(monkeypatch, *words) == 0
    names = {path.name for path in out.iterdir()}
    assert names >= {"results.json", "report.html", "metrics.parquet", "counts.parquet", "config.json", "runs"}
    results = json.loads((out / "results.json").read_text())
    assert [run["settings"] for run in results["runs"] if run["method"] == "infobatch"] == [
        {"prune_ratio": 0.3, "delta": 0.875}
    ]
    assert "infobatch" in capsys.readouterr().out

    assert run(monkeypatch, *words) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--resume") == 0
    assert run(monkeypatch, "report", out) == 0


def test_train_writes_run_and_weights(monkeypatch, tmp_path, capsys):
    from safetensors.torch import load_file

    assert run(monkeypatch, "train", "--out", tmp_path / "t", *SMALL, "--method", "ids+sb", "--seed", "5") == 0
    facts = json.loads((tmp_path / "t" / "run.json").read_text())
    assert facts["seed"] == 5
    assert len(facts["epochs_done"]) == 2
    assert load_file(tmp_path / "t" / "model.safetensors")
    assert "Accuracy" in capsys.readouterr().out


def test_a_training_may_be_tested_at_its_end_only(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "train", *SMALL, "--evaluate", "end", "--out", tmp_path / "run") == 0
    first, last = (line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch"))
    assert "not tested" in first
    assert "accuracy" in last
    assert json.loads((tmp_path / "run" / "run.json").read_text())["accuracy"] > 0


def test_what_a_method_finds_in_the_data_is_told_once(monkeypatch, tmp_path, capsys):
    words = ("--condition", "crawled=0.5", "--method", "distinct+class-cap", "--goal", "balanced")
    assert run(monkeypatch, "train", *SMALL, *words, "--out", tmp_path / "run") == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith(("Distinct:", "ClassCap:"))]
    assert len(told) == 2
    assert told[0].startswith("Distinct: 50 of 100 samples repeat another one, up to ")
    assert told[1].startswith("ClassCap: the largest class has 5 samples and the median one 5;")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_goal_that_matters_must_be_said_before_anything_is_trained(monkeypatch, tmp_path, capsys, command):
    method = ("--method", "class-cap") if command == "train" else ("--methods", "class-cap")
    assert run(monkeypatch, command, *SMALL, *method, "--out", tmp_path / "run") == 2
    text = capsys.readouterr().err
    assert "changes how often the classes come" in text
    assert "balanced" in text
    assert not (tmp_path / "run" / "runs").exists()


def test_inspect_looks_at_what_is_stored_and_says_what_it_did_not_look_at(monkeypatch, capsys):
    words = ("--limit", "100", "--condition", "crawled=0.5+long-tail=4", "--goal", "balanced")
    assert run(monkeypatch, "inspect", *words, "--seconds", "0") == 0
    shown = capsys.readouterr().out
    assert "Trying" not in shown
    assert "Training" not in shown
    assert shown.count("not looked at") == 2
    (repeats,) = re.findall(r"exact repeats +(\d+) of (\d+) samples repeat", shown)
    data = load("digits", limit=100, condition=words[3])
    groups = len({(image.numpy().tobytes(), label) for image, label in data.train})
    assert repeats == (str(len(data.targets) - groups), str(len(data.targets)))
    assert "8 x 8 pixels" in shown


def test_inspect_trains_if_asked_to_and_says_so_before(monkeypatch, capsys):
    assert run(monkeypatch, "inspect", *SMALL, "--seconds", "0.5", "--check-labels") == 0
    shown = capsys.readouterr().out
    assert "Trying small for about 0.5 s" in shown
    assert "Training small for 2 epochs to judge the labels, about" in shown
    assert "--epochs 375 will do" in shown  # 15,000 / (0.4 * 100)
    assert "not looked at" not in shown
    assert "of full training's time" in shown
    assert run(monkeypatch, "inspect", "--seconds", "-1") == 2
    assert "seconds=-1" in capsys.readouterr().err


def test_a_recorded_run_is_replayed(monkeypatch, tmp_path, capsys):
    picks = tmp_path / "picks"
    assert run(monkeypatch, "train", "--out", tmp_path / "t", *SMALL, "--method", "rs2", "--record", picks) == 0
    assert len(list(picks.glob("*.parquet"))) == 2
    words = ("train", "--out", tmp_path / "r", *SMALL, "--method", "replay")
    assert run(monkeypatch, *words) == 2
    assert "replay needs the setting 'path': --set replay.path=VALUE" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--set", f"replay.path={picks}", "--lr", "0.01") == 0
    first, second = (json.loads((tmp_path / name / "run.json").read_text()) for name in "tr")
    assert first["backward_samples"] == second["backward_samples"] == 100
    longer = ("train", "--out", tmp_path / "l", *words[3:], "--set", f"replay.path={picks}", "--epochs", "3")
    assert run(monkeypatch, *longer) == 2
    assert "wrap_around" in capsys.readouterr().err
    assert run(monkeypatch, *longer, "--set", "replay.wrap_around=true") == 0


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("part", "title", "comparisons"),
    [
        ("grad-match/architecture", "architecture", {"base"}),
        pytest.param(
            "cached-grad-match",
            "optimizer",
            {"base", "lr-0.001", "lr-0.003", "adam", "rmsprop"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_preset_runs_and_says_what_is_wrong(monkeypatch, tmp_path, capsys, part, title, comparisons):
    small = (
        *SMALL,
        "--data",
        "digits",
        "--model",
        "small",
        "--set",
        "grad-match.select_every=1",
        "--set",
        "grad-match.keep_ratio=0.5",
        "--set",
        "random-pb.keep_ratio=0.5",
    )
    preset = ("compare", "--out", tmp_path / "p", "--preset", part)
    assert run(monkeypatch, *preset) == 2
    assert "made for CIFAR-10. Say where it is" in capsys.readouterr().err
    assert run(monkeypatch, *preset, *small, "--methods", "sb") == 2
    assert "chooses the methods itself" in capsys.readouterr().err
    assert run(monkeypatch, *preset[:-1], "cached-grad-mach", *small) == 2
    assert "Did you mean 'cached-grad-match'" in capsys.readouterr().err
    assert run(monkeypatch, *preset, *small) == 0
    out = capsys.readouterr().out
    assert f"Fixed-accuracy speed-up by {title}" in out
    assert out.count("With one seed: ") == len(comparisons)  # what the report of each comparison says, and its caveat
    assert out.count("The spread between seeds is unknown") == len(comparisons)
    assert (tmp_path / "p" / "study.json").exists()
    assert {page.parent.name for page in (tmp_path / "p").glob("*/report.html")} == comparisons


@pytest.mark.usefixtures("undrawn")
def test_flags_win_over_the_file(monkeypatch, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 1\nlimit: 100\nwidth: 4\nsettings: {sb: {beta: 1.0}}\nmethods: [sb]\n")
    words = ("compare", "--config", file, "--epochs", "2", "--set", "sb.history=64", "--out", tmp_path / "o")
    assert run(monkeypatch, *words) == 0
    config = json.loads((tmp_path / "o" / "results.json").read_text())["config"]
    assert config["epochs"] == 2
    assert config["settings"] == {"sb": {"beta": 1.0, "history": 64}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "adonsi"), "methods: Unknown method 'adonsi'. Did you mean 'adonis'? Known: full, rpc"),
        (("--methods", ","), "methods: name at least one. Known: all, full, rpc"),
        (("--model", "smal"), "unknown model 'smal'"),
        (("--data", "digit"), "digits"),
        (("--data", "parquet:nowhere"), "nowhere"),
        (("--epochs", "0"), "epochs=0"),
        (("--set", "adonis.theta"), "must read METHOD.SETTING=VALUE"),
        (("--set", "adonis.thetta=1", "--methods", "adonis"), "Did you mean 'theta'"),
        (("--set", "adonis.theta=1.5", "--methods", "adonis"), "theta=1.5 is outside"),
        (("--set", "adonis.history=many", "--methods", "adonis"), "history='many' must be a whole number"),
        (("--seeds", "0,0"), "seeds: give one or more different whole numbers of at least 0, not 0,0."),
        (("--line", "0.5,0.3"), "line: give ascending shares between 0 and 1, not 0.5,0.3;"),
        (("--controls", "time,time"), "controls: give time, work or both, not time,time."),
        (("--threads", "0"), "threads=0 must be at least 1"),
        (("--threads", "5000"), "threads=5000 must be at most 4,096"),
        (("--epochs", 10**20), "epochs: 100000000000000000000 is more than an integer of 64 bits holds"),
        (("--weight-decay", "inf"), "weight_decay: inf must be finite"),
        (("--set", "adonis.history=1e30", "--methods", "adonis"), "history=1e+30 must be a whole number"),
        (("--set", "adonis.sigma=.inf"), "settings: adonis.sigma=inf must be finite"),
        (("--width", "1000000"), "width=1000000"),
        (("--out", "~nobody-here/x"), "~nobody-here/x: Could not determine home directory"),
        (("--resident", "perhaps"), "resident"),
        (("--seeds", "one"), "seeds"),
        (("--precision", "fp8"), "precision='fp8'"),
        (("--config", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("--bathc-size", "3"), "No such option"),
        (("--limit", "0"), "limit=0"),
        (("--methods", "ids", "--set", "ids.features=resnet81"), "Did you mean 'resnet18'"),
        (("--methods", "ids", "--set", "ids.features=resnet18:no.pth"), "no.pth does not exist"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(monkeypatch, tmp_path, capsys, words, message):
    code = run(monkeypatch, "compare", "--out", tmp_path / "o", *SMALL[4:6], *words)
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert "Value error" not in error
    assert ".." not in error
    assert not (tmp_path / "o" / "results.json").exists()


def test_a_configuration_file_of_something_else_is_named(monkeypatch, tmp_path, capsys):
    for content, message in [
        ("- 1\n- 2\n", "must hold settings by name"),
        ("a: [", "is not YAML"),
        ("epoch: 3", "epochs"),
    ]:
        file = tmp_path / "c.yaml"
        file.write_text(content)
        assert run(monkeypatch, "compare", "--config", file, "--out", tmp_path / "o") == 2
        assert message in capsys.readouterr().err


def test_more_samples_to_a_batch_than_selected_is_refused(monkeypatch, tmp_path, capsys):
    words = ("--limit", "100", "--batch-size", "64", "--epochs", "1", "--width", "4", "--set", "rs2.keep_ratio=0.2")
    assert run(monkeypatch, "compare", "--out", tmp_path / "o", *words, "--methods", "rs2") == 2
    assert "selects 20 samples, fewer than one batch of 64" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    shown = capsys.readouterr()
    assert "compare" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("words", [("--data", "[/red]"), ("--set", "adonis.theta=[1"), ("--methods", "ids@../../x")])
def test_odd_text_is_a_message_not_a_traceback(monkeypatch, tmp_path, capsys, words):
    assert run(monkeypatch, "compare", "--out", tmp_path / "o", *SMALL, *words) == 2
    assert "leantrain:" in capsys.readouterr().err


def test_a_training_that_will_not_fit_into_memory_is_refused(monkeypatch, tmp_path, capsys):
    words = ("train", "--out", tmp_path / "out", *SMALL, "--method", "ssp")
    monkeypatch.setattr(memory, "available", lambda device="cpu": 1000)
    assert run(monkeypatch, *words) == 2
    assert "1,000 bytes of memory are available" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(monkeypatch, *words) == 0
    assert "Memory for the selection: " in capsys.readouterr().out
