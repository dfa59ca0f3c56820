"""docs/does-it-pay.md says what the result files say: every number stands there, the leads follow from the raw runs."""

import json
import math
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "does-it-pay.md").read_text(encoding="utf-8")
CONDITIONS = ROOT / "results" / "conditions"
STUDY = json.loads((CONDITIONS / "study.json").read_text())
LONGER = ROOT / "results" / "conditions-60-epochs"
LONGER_STUDY = json.loads((LONGER / "study.json").read_text())
NUMBER = re.compile(r"(?<![\w.@-])[+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)")
SAID = {"95"}  # per cent of the intervals
SOURCES = [
    CONDITIONS / "study.json",
    LONGER / "study.json",
    ROOT / "results" / "cifar10-all-methods" / "results.json",
    ROOT / "results" / "cifar10-fresh-seeds" / "results.json",
    ROOT / "results" / "table-a1" / "cifar10-resnet18" / "study.json",
    ROOT / "results" / "sensitivity" / "adonis" / "study.json",
    ROOT / "results" / "sensitivity" / "ids" / "study.json",
    ROOT / "results" / "cached-grad-match" / "study.json",
]


def tables() -> list[list[list[str]]]:
    """Every table of the page: its rows of cells, without the headings' ruler."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", PAGE, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.strip().split("\n")]
        found.append([row for row in rows if not set("".join(row)) <= set("-: |")])
    return found


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):  # a table's columns may be numbers
        value = [*value.values(), *(f"={key}" for key in value)]
    if isinstance(value, list):
        for part in value:
            yield from leaves(part)
    elif isinstance(value, str):  # a condition holds numbers
        yield from (float(part) for part in re.findall(r"=(\d+(?:\.\d+)?)", value))
    elif isinstance(value, int | float) and math.isfinite(value):
        yield value


def test_every_number_stands_in_a_result_file() -> None:
    stand = set(SAID)
    for path in SOURCES:
        content = json.loads(path.read_text())
        numbers = [*leaves({key: value for key, value in content.items() if key != "environment"})]
        stand |= {f"{len(content['config']['seeds'])}"}
        for number in numbers:
            forms = [f"{number:.2f}", f"{100 * number:.1f}", f"{number:.0f}", f"{number:,.0f}", f"{100 * number:.0f}"]
            stand |= {form.removeprefix("-") for form in [*forms, f"{number:g}"]}
    counted = re.search(r"^Of (\d+) pairs.*?(\d+) beat.*?(\d+) are within.*?(\d+) lose", PAGE, re.MULTILINE | re.DOTALL)
    assert counted
    rest = PAGE.replace(counted[0], "")
    told = [number.lstrip("+−") for number in NUMBER.findall(re.sub(r"\(does-it-pay/.*?\)", "", rest))]
    assert len(told) > 300
    assert [number for number in told if number not in stand] == []
    rows = [row for found in STUDY["matrix"].values() for row in found["rows"] if row["method"] != "full"]
    verdicts = [row["verdict"] for row in rows]
    expected = [len(verdicts), *map(verdicts.count, ("beats control", "within noise", "loses to control"))]
    assert [int(count) for count in counted.groups()] == expected


def test_leads_over_stopping_follow_from_the_raw_runs() -> None:
    """Full training's tests along its way, at the time of ids: between two of them linear."""
    study = json.loads((ROOT / "results" / "table-a1" / "cifar10-resnet18" / "study.json").read_text())
    told = next(rows for rows in tables() if rows[0][-1] == "beside stopping")
    cells = {row[0]: row[-1] for row in told[1:]}
    assert list(cells) == [name for table in study["tables"] for name in table["rows"]]
    found = json.loads((ROOT / "results" / "table-a1" / "cifar10-resnet18" / "all" / "results.json").read_text())
    plain = [run for run in found["runs"] if run["control_for"] is None]
    ways = {run["seed"]: [at["accuracy"] for at in run["trajectory"]] for run in plain if run["method"] == "full"}
    assert [len(way) for way in ways.values()] == [12] * 5
    epochs = 12 * next(row["time_ratio"] for row in found["summary"] if row["method"] == "ids")
    leads = [
        100 * (run["accuracy"] - np.interp(epochs, range(1, 13), ways[run["seed"]]))
        for run in plain
        if run["method"] == "ids"
    ]
    half = stats.t.ppf(0.975, 4) * stats.sem(leads)
    assert cells["ids"].replace("−", "-") == f"{np.mean(leads):+.2f} ± {half:.2f}"


def told_under(name: str) -> dict[str, str]:
    column = list(STUDY["matrix"]).index(name) + 1
    return {cells[0].strip("`"): cells[column] for cells in tables()[0][1:]}


def told_of_longer(name: str) -> dict[str, str]:
    ranked = [rows for rows in tables() if rows[0][:4] == ["method", "accuracy in %", "boost", "lead in p.p."]]
    rows = ranked[list(LONGER_STUDY["matrix"]).index(name)]
    return {cells[0].strip("`"): cells[3] for cells in rows[1:] if cells[0] != "`full`"}


@pytest.mark.parametrize(
    ("folder", "name"),
    [*((CONDITIONS, name) for name in STUDY["matrix"]), *((LONGER, name) for name in LONGER_STUDY["matrix"])],
)
def test_leads_and_intervals_follow_from_the_raw_runs(folder: Path, name: str) -> None:
    """The control: between the two nearest full trainings with the same seed, linear in the log of their length."""
    found = json.loads((folder / name / "results.json").read_text())
    study = STUDY if folder == CONDITIONS else LONGER_STUDY
    rows = {row["method"]: row for row in study["matrix"][name]["rows"]}
    full = {run["seed"]: run["accuracy"] for run in found["runs"] if run["method"] == "full" and not run["control_for"]}
    line = [run for run in found["runs"] if run["control_for"] == "line"]
    assert len(full) >= 5
    told = told_under(name) if folder == CONDITIONS else told_of_longer(name)
    assert set(told) == set(rows) - {"full"}
    for method, cell in told.items():
        share = min(rows[method]["time_ratio"], 1.0)
        leads = []
        for run in found["runs"]:
            if run["method"] == method and not run["control_for"]:
                own = sorted((r["share"], r["accuracy"]) for r in line if r["seed"] == run["seed"])
                lengths, accuracies = zip(*own, (1.0, full[run["seed"]]), strict=True)
                leads.append(100 * (run["accuracy"] - np.interp(math.log(share), np.log(lengths), accuracies)))
        if not min(lengths) <= rows[method]["time_ratio"] <= 1.02:  # off the line: has controls of its own
            continue
        half = stats.t.ppf(0.975, len(leads) - 1) * stats.sem(leads)
        assert cell[:-2].replace("−", "-") == f"{np.mean(leads):+z.2f} ± {half:.2f}"


def test_the_page_is_the_one_that_the_command_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    made = runpy.run_path(str(ROOT / "tools" / "does_it_pay.py"))
    assert made["page"](made["context"](ROOT / "results")) == PAGE, "run `make page`"
    figures = re.findall(r"\((does-it-pay/[\w-]+\.png)\)", PAGE)
    assert len(figures) == 7
    assert all((ROOT / "docs" / figure).exists() for figure in figures)
