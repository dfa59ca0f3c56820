"""Which classes lost most: re-computed by plain loops from the file, and shown on the page."""

import json

import numpy as np
from synthetic import write_results

from leantrain.report import counts as counts_module
from leantrain.report.losses import classes_lost
from leantrain.report.page import render
from leantrain.report.results import load


def with_class_accuracy(folder, classes=10):
    data = write_results(folder, methods=["rs2", "sb"])
    rng = np.random.default_rng(1)
    for run in data["runs"]:
        run["class_accuracy"] = rng.random(classes).round(3).tolist()
    (folder / "results.json").write_text(json.dumps(data))
    return data


def test_the_three_worst_classes_of_each_method(tmp_path):
    data = with_class_accuracy(tmp_path)
    results = load(tmp_path)
    found = classes_lost(results, counts_module.load_counts(results) or [])
    assert [entry.method for entry in found] == ["rs2", "sb"]
    for entry in found:
        means = {}
        for method in ("full", entry.method):
            rows = [r["class_accuracy"] for r in data["runs"] if r["method"] == method and r["control_for"] is None]
            assert len(rows) == 3
            means[method] = [100 * sum(row[label] for row in rows) / 3 for label in range(10)]
        lost = [full - own for full, own in zip(means["full"], means[entry.method], strict=True)]
        worst = sorted(range(10), key=lambda label: -lost[label])[:3]
        assert [loss.label for loss in entry.worst] == worst
        assert all(abs(loss.lost - lost[loss.label]) < 1e-9 for loss in entry.worst)
        assert abs(entry.mean - sum(lost) / 10) < 1e-9
        assert all(loss.kept is not None and loss.kept > 0 for loss in entry.worst)
    page = render(results)
    first = found[0].worst[0]
    assert f"{results.class_name(first.label)}: {first.accuracy:.1f} %, {first.lost:+.1f}" in page


def test_results_without_accuracies_by_class_show_no_table(tmp_path):
    write_results(tmp_path, methods=["rs2"])
    results = load(tmp_path)
    assert classes_lost(results, []) == []
    assert "Which classes lost most" not in render(results)


def test_damaged_accuracies_by_class_are_left_out(tmp_path):
    data = with_class_accuracy(tmp_path)
    for run, bad in zip(data["runs"], [None, [0.5, None], "many", [0.1], {}], strict=False):
        run["class_accuracy"] = bad
    (tmp_path / "results.json").write_text(json.dumps(data))
    assert classes_lost(load(tmp_path), []) == []
