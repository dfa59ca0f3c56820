"""A damaged or foreign results folder is refused with one message that names the file and the way out."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic

from leantrain import report
from leantrain.report.results import load


@pytest.fixture
def out(tmp_path: Path) -> Path:
    synthetic.write_results(tmp_path, samples=60, epochs=6)
    return tmp_path


def refused(out: Path, kind: type[Exception], *words: str) -> None:
    with pytest.raises(kind) as caught:
        report.write(out)
    message = str(caught.value)
    for word in (*words, "leantrain compare"):
        assert word in message, message
    assert not (out / "report.html").exists()


def edit(out: Path, change) -> None:
    data = json.loads((out / "results.json").read_text())
    change(data)
    (out / "results.json").write_text(json.dumps(data))


def test_missing_results(tmp_path: Path) -> None:
    refused(tmp_path, FileNotFoundError, str(tmp_path / "results.json"))


@pytest.mark.parametrize("name", ["results.json", "metrics.parquet", "counts.parquet"])
def test_cut_off_file(out: Path, name: str) -> None:
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[: len(whole) // 2])
    refused(out, ValueError, str(out / name), "cut off")


def test_other_schema(out: Path) -> None:
    edit(out, lambda data: data.update(schema=2))
    refused(out, ValueError, "results.json", "schema 2", "schema 1")


def test_no_runs(out: Path) -> None:
    edit(out, lambda data: data.update(runs=[]))
    refused(out, ValueError, "results.json", "no runs")


def test_no_full_training(out: Path) -> None:
    edit(out, lambda data: data.update(runs=[r for r in data["runs"] if r["method"] != "full"]))
    refused(out, ValueError, "results.json", "'full'")


@pytest.mark.parametrize("value", [None, math.nan, "0.7", True])
def test_run_without_a_number(out: Path, value: object) -> None:
    edit(out, lambda data: data["runs"][2].update(accuracy=value))
    refused(out, ValueError, "runs[2]", "'accuracy'", repr(value))


def test_missing_column(out: Path) -> None:
    table = pq.read_table(out / "counts.parquet").drop_columns(["trained"])
    pq.write_table(table, out / "counts.parquet")
    refused(out, ValueError, "counts.parquet", "lacks the columns ['trained']")


def test_methods_come_as_configured_full_first(out: Path) -> None:
    edit(out, lambda data: data["config"].update(methods=["adonis", "full", "never-run", "rs2"]))
    assert load(out).methods == ("full", "adonis", "rs2", "infobatch", "ids+adonis")


def test_extra_keys_and_missing_trajectory_are_accepted(out: Path) -> None:
    def change(data: dict) -> None:
        data["new"] = 1
        for run in data["runs"]:
            run["new"] = {"a": [1]}
            run["trajectory"] = [{"epoch": 1, "train_seconds": math.nan, "accuracy": 0.1}]

    edit(out, change)
    assert np.array_equal(load(out).runs[0].track(), np.empty((0, 3)))
    assert report.write(out).exists()


def test_metrics_and_counts_may_be_absent_and_the_page_says_so(out: Path) -> None:
    (out / "metrics.parquet").unlink()
    (out / "counts.parquet").unlink()
    page = report.write(out).read_text()
    assert "Not in this folder, so parts are left out: metrics.parquet, counts.parquet." in page
    assert "kept_share" not in report.figures(out)


def test_steady_seconds_take_the_place_of_the_clocks(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, samples=60)
    before = load(tmp_path).runs[0]
    content = json.loads((tmp_path / "results.json").read_text())
    content["runs"][0]["steady_seconds"] = before.seconds / 4
    (tmp_path / "results.json").write_text(json.dumps(content))
    after = load(tmp_path).runs[0]
    assert after.seconds == before.seconds / 4
    assert after.track()[:, 1] == pytest.approx(before.track()[:, 1] / 4)
