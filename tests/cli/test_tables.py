"""What is printed at 80 columns is whole: no cell is cut, no line is wider, every method and verdict is there."""

import copy
import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from leantrain.cli import tables
from leantrain.estimation.dry_run import DryRun, Epoch
from leantrain.estimation.forecast import Costs, Estimate, forecast
from leantrain.estimation.inspection import Inspection

RESULTS = Path(__file__).resolve().parents[2] / "results"
COMPARISONS = sorted(RESULTS.rglob("results.json"))
STUDIES = sorted(RESULTS.rglob("study.json"))


def printed(*shown, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    for one in shown:
        console.print(one)
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "…" not in text
    assert max(map(len, text.splitlines()), default=0) <= width
    return text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("file", COMPARISONS, ids=lambda file: str(file.parent.relative_to(RESULTS)))
def test_a_comparison_s_table_is_whole(file, width):
    results = json.loads(file.read_text())
    lines = [line.replace("│", " ").split() for line in printed(tables.table(results, width), width=width).splitlines()]
    for row in results["summary"]:
        (cells,) = [line for line in lines if line[:1] == [row["method"]]]
        verdict = row["verdict"] or ""
        assert " ".join(cells).count(verdict) >= 1
        assert f"{100 * row['accuracy']:.2f}" in cells
        assert f"{row['boost']:.2f}×" in cells
        if row["control_accuracy_pp_ahead"] is not None:
            assert f"{row['control_accuracy_pp_ahead']:+.2f}" in cells


def test_a_wide_terminal_is_used():
    file = RESULTS / "conditions" / "long-tail-100" / "results.json"
    results = json.loads(file.read_text())
    shown = {width: printed(tables.table(results, width), width=width).splitlines() for width in (80, 120, 170)}
    heading = {width: next(line for line in lines if "method" in line) for width, lines in shown.items()}
    for width, there, spared in ((80, "drop", "balanced"), (120, "balanced", "with prep."), (170, "with prep.", "…")):
        assert there in heading[width]
        assert spared not in heading[width]
    assert "┃" in heading[170]


def test_long_names_in_a_narrow_terminal_are_folded():
    results = json.loads(COMPARISONS[0].read_text())
    results["summary"] = copy.deepcopy(results["summary"][:2])
    name = results["summary"][1]["method"] = "ids+" + "adonis@" * 12 + "end"
    text = printed(tables.table(results, 80), width=80)
    assert name in "".join(line.split(" ")[1] for line in text.splitlines() if line.startswith(" "))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: str(file.parent.relative_to(RESULTS)))
def test_a_preset_s_tables_are_whole(file):
    study = json.loads(file.read_text())
    shown = tables.tables(study)
    text = printed(*shown, *([tables.matrix(study, 80)] if study["matrix"] else []), width=80)
    for row in (name for table in study["tables"] for name in table["rows"]):
        assert row in text
    for name, column in (study["matrix"] or {}).items():
        assert name.split("+")[0] in text
        for row in column["rows"]:
            if row["control_accuracy_pp_ahead"] is not None:
                assert f"{row['control_accuracy_pp_ahead']:+.2f}" in text
                assert f"± {row['noise_pp']:.2f}" in text


def test_an_estimate_is_whole():
    costs = Costs(fetch=1e-5, score=1e-3, forward=0.123456, backward=0.25, optimizer=0.01)
    names = ("full", "infobatch", "cached-grad-match-warm-1")
    epoch = Epoch(trained=50_000, scored=50_000, loaded=50_000, decide=1.0, aside=0.0)
    runs = [(name, DryRun(epochs=[epoch] * 200, before=12_345.6, exact=name == "full")) for name in names]
    found = forecast(runs, costs, 50_000, 200)
    text = str(Estimate(
        forecasts=found, costs=costs, size=50_000, batch_size=128, epochs=200, rehearsed=(2_000, 3), simulated=2_000
    ))  # fmt: skip
    assert max(map(len, text.splitlines())) <= 80
    saved, counted, *_ = [[line.split("  ") for line in part.splitlines()] for part in text.split("\n\n")]
    for part, columns in ((saved, 6), (counted, 6)):
        for line, name in zip(part, ("method", *names), strict=False):
            assert line[0] == name
            assert len([cell for cell in line if cell]) == columns
    for row in found:
        assert f"{row.boost_with_preprocessing:.2f}×" in text
        assert f"{row.control_epochs:.1f} ep." in text


def test_an_inspection_is_whole():
    count = 1_234_567
    found = Inspection(
        size=10 * count, goal=None, classes={name: (name + 1) * count for name in range(9)}, once={0: 9, 1: 1, 2: 1},
        repeats=5 * count, conflicts=tuple(range(count, count + 9)), hidden="", sides=((1080, 1920),) * 9,
        unreadable=tuple(range(count, count + 8)), guarded=True, wrong_labels=0.4,
    )  # fmt: skip
    looked = " ".join(printed(tables.facts(found), width=80).split())
    assert all(name in looked for name in found.facts())
    words = printed(tables.facts(found), tables.advice(found), width=80).split()
    assert {*" ".join(found.facts().values()).split()} <= {*words}
    assert {word for one in found.advice() for word in (one.method, *one.why.split())} <= {*words}
    plain = dataclasses.replace(found, repeats=0, guarded=None, sides=())
    assert "results/conditions/study.json" in printed(tables.advice(plain), width=80).split()
