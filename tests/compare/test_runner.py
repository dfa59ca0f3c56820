"""A whole comparison on a few digits: what is run, written, resumed and refused."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from leantrain import data
from leantrain.compare import CompareConfig, jobs
from leantrain.compare import runner as experiment_module
from leantrain.methods import METHODS

pytestmark = pytest.mark.usefixtures("shallow")

RUN_KEYS = {
    "method",
    "settings",
    "seed",
    "control_for",
    "epochs",
    "accuracy",
    "train_seconds",
    "preprocess_seconds",
    "selection_seconds",
    "total_seconds",
    "forward_samples",
    "backward_samples",
    "loaded_samples",
    "steps",
    "trajectory",
}
SUMMARY_KEYS = {
    "method",
    "accuracy_drop_pp",
    "accuracy_drop_std",
    "boost",
    "boost_with_preprocessing",
    "boost_to_5pp",
    "work_ratio",
    "control_accuracy_pp_ahead",
    "verdict",
}


def compare(*given, **more) -> dict[str, Any]:
    """As ``results.json`` has it."""
    return experiment_module.compare(*given, **more).content()


def config(**changes) -> CompareConfig:
    return CompareConfig(
        **{
            "limit": 120,
            "width": 4,
            "epochs": 3,
            "batch_size": 32,
            "methods": ("ids+adonis", "stale-sb"),
            "settings": {"adonis": {"theta": "auto", "stale_epochs": 2}},
        }
        | changes
    )


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=120)


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, compare(config(seeds=(0, 1)), digits, out)


def test_every_method_and_its_control_with_every_seed(finished):
    out, results = finished
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    ran = [(run["method"], run["control_for"], run["seed"]) for run in results["runs"]]
    methods = ("full", "ids+adonis", "stale-sb", "rs2")
    assert sorted(ran, key=str) == sorted(
        [(m, None, s) for m in methods for s in (0, 1)] + [("full", m, s) for m in methods[1:] for s in (0, 1)], key=str
    )
    assert results["schema"] == 1
    assert all(set(run) >= RUN_KEYS for run in results["runs"])
    assert [row["method"] for row in results["summary"]] == list(methods)
    assert all(set(row) >= SUMMARY_KEYS for row in results["summary"])


def test_controls_train_for_the_methods_share_of_time(finished):
    _, results = finished
    full = next(run for run in results["runs"] if run["method"] == "full" and run["control_for"] is None)
    for row in results["summary"][1:]:
        for control in (run for run in results["runs"] if run["control_for"] == row["method"]):
            assert control["epochs"] == pytest.approx(3 * row["time_ratio"])
            # a cut epoch ends within one batch of its share
            assert abs(control["backward_samples"] / full["backward_samples"] - control["epochs"] / 3) < 1.01 * 32 / 360


def test_counts_hold_together(finished):
    out, results = finished
    for run in results["runs"]:
        assert run["forward_samples"] >= run["backward_samples"] + run["scored_samples"]
        assert 0 <= run["accuracy"] <= 1
        assert len(run["trajectory"]) == len({point["epoch"] for point in run["trajectory"]})
        assert run["train_seconds"] == run["trajectory"][-1]["train_seconds"]
    rows = pq.read_table(out / "counts.parquet").to_pylist()
    for run in results["runs"]:
        if run["control_for"] is None:
            mine = [row for row in rows if row["run"] == f"{run['method']}-seed{run['seed']}"]
            assert sum(row["trained"] for row in mine) == run["backward_samples"]
            assert [row["index"] for row in mine] == list(range(120))


def test_what_is_kept_of_each_sample(finished, digits):
    out, _ = finished
    rows = pq.read_table(out / "counts.parquet").to_pylist()
    known = {row["run"] for row in rows if row["distance"] is not None}
    assert known == {"ids+adonis-seed0", "ids+adonis-seed1"}
    again = experiment_module.train(config(), digits, "ids+adonis", 1)
    mine = [row for row in rows if row["run"] == "ids+adonis-seed1"]
    for name in ("trained", "loss", "distance"):
        values = [math.nan if row[name] is None else row[name] for row in mine]
        assert values == pytest.approx(again.samples[name].tolist(), nan_ok=True)
    plain = [row["loss"] for row in rows if row["run"] == "full-seed0"]
    assert all(loss > 0 for loss in plain)


def test_boosts_are_ratios_of_the_steady_seconds(finished):
    _, results = finished
    plain = [run for run in results["runs"] if run["control_for"] is None]
    steady = {
        row["method"]: sum(r["steady_seconds"] for r in plain if r["method"] == row["method"])
        for row in results["summary"]
    }
    for row in results["summary"]:
        assert row["boost"] == pytest.approx(steady["full"] / steady[row["method"]])


def test_metrics_sum_up_to_the_runs(finished):
    out, results = finished
    rows = pq.read_table(out / "metrics.parquet").to_pylist()
    for run in results["runs"]:
        mine = [
            r
            for r in rows
            if (r["method"], r["control_for"], r["seed"]) == (run["method"], run["control_for"], run["seed"])
        ]
        assert sum(row["trained"] for row in mine) == run["backward_samples"]
        assert sum(row["scored"] for row in mine) == run["scored_samples"]


class Stopped(Exception):
    pass


def test_a_comparison_tested_at_the_end_only_resumes(digits, tmp_path):
    """Its finished runs hold no accuracy for the epochs before the last."""
    settings = config(methods=("rpd",), control="line", line=[0.5], evaluate="end", epochs=2)
    before = compare(settings, digits, tmp_path / "out")
    after = compare(settings, digits, tmp_path / "out", resume=True)
    assert [point["accuracy"] for point in after["runs"][0]["trajectory"]][:-1] == [None]
    assert after["runs"] == before["runs"]


def test_an_interrupted_comparison_resumes_without_running_again(digits, tmp_path, monkeypatch):
    ran = []
    real = experiment_module.train

    def train(config, data, method, seed, **more):
        if len(ran) == 3:
            raise Stopped
        ran.append(method)
        return real(config, data, method, seed, **more)

    monkeypatch.setattr(experiment_module, "train", train)
    with pytest.raises(Stopped):
        compare(config(), digits, tmp_path / "out")
    monkeypatch.setattr(experiment_module, "train", lambda *a, **k: (ran.append(a[2]), real(*a, **k))[1])
    results = compare(config(), digits, tmp_path / "out", resume=True)
    plain, controls = jobs(config())
    assert len(ran) == len(plain) + len(controls) == len(results["runs"])


def test_the_same_configuration_gives_the_same_accuracies(finished, digits, tmp_path):
    _, results = finished
    again = compare(config(), digits, tmp_path / "out")
    first = {(r["method"], r["seed"]): r["accuracy"] for r in results["runs"] if r["control_for"] is None}
    for run in again["runs"]:
        if run["control_for"] is None:
            assert run["accuracy"] == first[run["method"], 0]


def test_a_folder_of_another_configuration_is_refused(finished, digits):
    out, _ = finished
    with pytest.raises(ValueError, match=r"another configuration \(.*epochs 3 there, 4 here.*Give another --out"):
        compare(config(seeds=(0, 1), epochs=4), digits, out, resume=True)
    with pytest.raises(ValueError, match=r"holds this comparison already. Pass --resume"):
        compare(config(seeds=(0, 1)), digits, out)


def test_seeds_can_be_added_to_a_finished_comparison(finished, digits, tmp_path):
    out, ran = tmp_path / "out", []
    compare(config(note="One seed."), digits, out)
    both = config(seeds=(1, 0), note="Two seeds.")
    results = compare(both, digits, out, resume=True, on_epoch=lambda job, epochs, _: ran.append((job.name, epochs)))
    assert results["config"] == both.model_dump(mode="json") == json.loads((out / "config.json").read_text())["config"]
    plain = {(run["method"], run["seed"]): run["accuracy"] for run in results["runs"] if run["control_for"] is None}
    straight = {(r["method"], r["seed"]): r["accuracy"] for r in finished[1]["runs"] if r["control_for"] is None}
    assert plain == straight
    methods = ("full", "ids+adonis", "stale-sb", "rs2")
    assert {name for name, epochs in ran if not epochs} >= {f"{method}-seed0" for method in methods}
    with pytest.raises(ValueError, match=r"seeds \[1, 0\] there, \[1\] here"):
        compare(config(seeds=(1,)), digits, out, resume=True)


def test_a_control_is_cut_anew_where_added_seeds_moved_its_budget(digits, tmp_path):
    out = tmp_path / "out"
    compare(config(), digits, out)
    path = out / "runs" / "full-seed0-control-for-stale-sb.json"
    kept = json.loads(path.read_text())
    wanted = kept["facts"]["epochs"]
    for factor, again in ((1.005, False), (1.02, True)):
        path.write_text(json.dumps(kept | {"facts": kept["facts"] | {"epochs": factor * wanted}}))
        results = compare(config(), digits, out, resume=True)
        (control,) = [run for run in results["runs"] if run["control_for"] == "stale-sb"]
        assert control["epochs"] == pytest.approx(wanted if again else factor * wanted, rel=1e-9)


def test_a_folder_of_other_data_is_refused(finished):
    out, _ = finished
    with pytest.raises(ValueError, match="other data, or the data set changed"):
        compare(config(seeds=(0, 1)), data.load("digits", limit=121), out, resume=True)


def test_a_folder_of_something_else_is_left_alone(digits, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="not empty and holds no comparison"):
        compare(config(), digits, tmp_path)
    with pytest.raises(ValueError, match="not empty and holds no comparison"):
        compare(config(), digits, tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_bad_settings_show_before_any_training(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_module, "train", lambda *a, **k: pytest.fail("training started"))
    with pytest.raises(ValueError, match=r"Unknown setting of adonis 'thetta'. Did you mean 'theta'"):
        compare(config(settings={"adonis": {"thetta": 1}}), digits, tmp_path / "out")
    with pytest.raises(ValueError, match=r"keep_ratio=40 is outside \(0, 1\].*pass 0.4"):
        compare(config(settings={"ids": {"keep_ratio": 40}}), digits, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_earlier_result_whole(finished, digits, monkeypatch):
    out, _ = finished
    before = (out / "results.json").read_bytes()
    real = Path.write_text

    def full_disk(self, *args, **more):
        if "results.json" in self.name:
            real(self, "{")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match=r"No space left on device while writing .*results.json. What was there before"):
        compare(config(seeds=(0, 1)), digits, out, resume=True)
    assert (out / "results.json").read_bytes() == before
    assert not list(out.glob(".results*"))


def test_a_damaged_run_file_is_named(finished, digits, tmp_path):
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    path = out / "runs" / "rs2-seed0.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"rs2-seed0.json is damaged .* Remove it; --resume"):
        compare(config(seeds=(0, 1)), digits, out, resume=True)


def test_all_stands_for_every_method_but_replay():
    config = CompareConfig(methods=("sb@long", "all"), settings={"sb@long": {"history": 64}}, goal="balanced")
    assert config.methods[0] == "full"
    assert set(config.methods) == {*METHODS, "sb@long"} - {"replay"}
    assert len(config.methods) == len(METHODS)
    without_goal = CompareConfig(methods=("all",))
    assert set(METHODS) - set(without_goal.methods) == {"replay", "class-cap"}


@pytest.fixture(scope="module")
def lined(digits, tmp_path_factory):
    """Controls read off a line, for time and work, with a method that lies outside of it."""
    out = tmp_path_factory.mktemp("line") / "out"
    made = config(
        methods=("forget",),
        control="line",
        line=(0.4, 0.8),
        controls=("time", "work"),
        evaluate="end",
        condition="long-tail=2",
        settings={"forget": {"probe_epochs": 1.0}},
    )
    return out, compare(made, digits, out)


def test_a_line_serves_all_methods_and_a_method_outside_of_it_has_its_own(lined):
    _, results = lined
    controls = [run for run in results["runs"] if run["control_for"]]
    line = [(run["share"], run["epochs"]) for run in controls if run["control_for"] == "line"]
    assert line == [(0.4, pytest.approx(1.2)), (0.8, pytest.approx(2.4))]
    rows = {row["method"]: row for row in results["summary"]}
    assert rows["forget"]["time_ratio"] > 1.02  # a probe as long as the training, which then still keeps 70 %
    own = [run for run in controls if run["control_for"] == "forget"]
    assert {run["budget"] for run in own} <= {"time", "work"}
    assert own[0]["epochs"] == pytest.approx(3 * rows["forget"]["time_ratio"])
    assert not [run for run in controls if run["control_for"] == "rs2"]
    assert rows["rs2"]["control_epochs"] == pytest.approx(3 * rows["rs2"]["time_ratio"])
    low, high = (
        next(r["accuracy"] for r in results["runs"] if r["control_for"] == "line" and r["share"] == part)
        for part in (0.4, 0.8)
    )
    assert min(low, high) < rows["rs2"]["control_accuracy"] < max(low, high)


def test_a_condition_reaches_the_training_and_the_folder(lined, digits):
    out, results = lined
    counts = pq.read_table(out / "counts.parquet").to_pylist()
    of_full = [row["label"] for row in counts if row["run"] == "full-seed0"]
    assert len(of_full) < 120
    sizes = sorted(of_full.count(label) for label in range(10))
    assert sizes[-1] == pytest.approx(2 * sizes[0], abs=1)
    assert results["config"]["condition"] == "long-tail=2"
    assert set(results["summary"][0]) >= {"balanced_accuracy", "worst_class_accuracy"}
    rare = sorted(range(10), key=of_full.count)[:3]
    for run in results["runs"]:
        told = sum(run["class_accuracy"][label] for label in rare) / 3
        assert run["rare_classes_accuracy"] == pytest.approx(told)
    with pytest.raises(ValueError, match=r"other data, or the data set changed"):
        compare(config(condition="long-tail=2", condition_seed=1), digits, out, resume=True)


def test_tested_at_the_end_only(lined):
    _, results = lined
    for run in results["runs"]:
        told = [point["accuracy"] for point in run["trajectory"]]
        assert told[:-1] == [None] * (len(told) - 1)
        assert told[-1] == run["accuracy"]


def test_the_report_of_such_a_comparison_shows_the_rare_classes_and_the_line(lined):
    from leantrain.report import write

    out, results = lined
    page = write(out).read_text()
    row = results["summary"][1]
    assert f"{100 * row['rare_classes_accuracy']:.2f}" in page
    assert f"{100 * row['balanced_accuracy']:.2f}" in page
    assert "Read off a line" in page
    assert "one seed: noise unknown" in page
    assert "equal‑work control" in page


def test_one_control_where_time_and_work_agree(digits, tmp_path):
    made = config(methods=("rs2",), controls=("time", "work"), epochs=2)
    results = compare(made, digits, tmp_path / "out")
    controls = [run["budget"] for run in results["runs"] if run["control_for"]]
    row = results["summary"][1]
    near = abs(row["work_ratio"] - row["time_ratio"]) <= 0.01
    assert controls == (["time"] if near else ["time", "work"])
    assert row["work_control_accuracy"] is not None
