"""Write docs/does-it-pay.md and its figures from the result files: python tools/does_it_pay.py

The page's words are in does_it_pay.md.j2, its figures in does_it_pay_figures.py. Every number comes from a file under
results/; nothing is trained here.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from does_it_pay_figures import draw
from leantrain.compare.results import FULL, LINE
from leantrain.compare.summary import LEVEL
from leantrain.data.conditions import unbalanced
from leantrain.report import load

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "does-it-pay.md"
FIGURES = ROOT / "docs" / "does-it-pay"
SIGNS = {"beats control": "▲", "loses to control": "▼", "within noise": "="}
AHEAD = "control_accuracy_pp_ahead"

Row = dict[str, Any]


def main() -> None:
    found = context(RESULTS)
    PAGE.write_text(page(found), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)} and {len(draw(found, FIGURES))} figures beside it.")


def page(found: dict[str, Any]) -> str:
    """The page as text, of what ``context`` gives."""
    # No escaping: Markdown, of names and numbers that we wrote. An unknown name is our mistake, no empty spot.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"listed": listed, "percent": percent, "thousands": "{:,}".format}
    named = ("longer", "more", "fresh", "table_a1", "adonis", "ids", "grad_match")
    studies = {name: found[name]["config"] for name in named}
    text = environment.get_template("does_it_pay.md.j2").render(
        config=found["config"],
        level=LEVEL,
        tables=tables(found),
        **advice(found),
        **studies,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def context(results: Path) -> dict[str, Any]:
    """What page and figures tell: the matrix of conditions and the sources' tables, as their result files have them."""
    return _matrix(results / "conditions") | {
        "longer": _matrix(results / "conditions-60-epochs"),
        "more": _comparison(results / "cifar10-all-methods"),
        "fresh": _comparison(results / "cifar10-fresh-seeds"),
        "table_a1": _study(results / "table-a1" / "cifar10-resnet18")
        | {"line": _line(results / "table-a1" / "cifar10-resnet18" / "all")},
        "adonis": _study(results / "sensitivity" / "adonis"),
        "ids": _study(results / "sensitivity" / "ids"),
        "grad_match": _study(results / "cached-grad-match"),
    }


def advice(found: dict[str, Any]) -> dict[str, Any]:
    """What the verdicts say in words: by condition, and over all of them."""
    verdicts = {m: [rows[m]["verdict"] for rows in found["conditions"].values()] for m in found["methods"]}
    told = []
    for name, rows in found["conditions"].items():
        by_verdict = {verdict: [m for m in found["methods"] if rows[m]["verdict"] == verdict] for verdict in SIGNS}
        won = [f"`{m}` ({lead(rows[m])} p.p., boost {rows[m]['boost']:.2f})" for m in by_verdict["beats control"]]
        told.append({"words": words(found["names"][name]), "won": won, "tied": by_verdict["within noise"]})
    flat = [verdict for given in verdicts.values() for verdict in given]
    return {
        "advice": told,
        "count": {"pairs": len(flat)} | {verdict: flat.count(verdict) for verdict in SIGNS},
        "never_behind": [m for m, given in verdicts.items() if "loses to control" not in given],
        "long": [
            {"words": words(found["longer"]["names"][name])}
            | {sign: [m for m in found["longer"]["methods"] if rows[m]["verdict"] == sign] for sign in SIGNS}
            for name, rows in found["longer"]["conditions"].items()
        ],
        "ahead_more": _ahead(found["more"]["rows"]),
        "ahead_fresh": _ahead(found["fresh"]["rows"]),
        "again": ", ".join(f"`{m}` {lead(found['fresh']['rows'][m])}" for m in _ahead(found["more"]["rows"])),
        "behind_stopping": [
            name
            for table in found["table_a1"]["tables"].values()
            for name, row in table["rows"].items()
            if row["verdict"] == "within noise" and row["stopped"]["ahead"] < -row["stopped"]["noise"]
        ],
        "always_behind": [m for m, given in verdicts.items() if {*given} == {"loses to control"}],
    }


def _ahead(rows: dict[str, Row]) -> list[str]:
    return [method for method, row in rows.items() if row["verdict"] == "beats control"]


def tables(found: dict[str, Any]) -> dict[str, Any]:
    """The page's tables in Markdown; of longer trainings one a condition."""
    methods, longer = found["methods"], found["longer"]
    tailed = {name: unbalanced(condition) for name, condition in found["names"].items()}

    def by_condition(cell: Callable[[Row], str], listed: list[str], *, tails: bool | None = None) -> str:
        names = [name for name in found["names"] if tails is None or tailed[name] == tails]
        lines = [[f"`{m}`", *[cell(found["conditions"][name][m]) for name in names]] for m in listed]
        return markdown(["method", *[found["names"][name] for name in names]], lines)

    def beside(figure: str) -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            control = row[f"control_{figure}"]
            return percent(row[figure]) + ("" if control is None else f" ({percent(control)})")

        return cell

    return {
        "time": by_condition(lead, methods),
        "work": by_condition(lambda row: lead(row, "work_"), methods),
        "accuracy": by_condition(lambda r: f"{percent(r['accuracy'])} ({r['boost']:.2f})", ["full", *methods]),
        "worst_class": by_condition(beside("worst_class_accuracy"), methods, tails=False),
        "rare_classes": by_condition(beside("rare_classes_accuracy"), methods, tails=True),
        "longer": {
            words(longer["names"][name]): _ranked(
                {m: rows[m] for m in ("full", *longer["methods"])},
                {"rare classes in %": beside("rare_classes_accuracy")} if unbalanced(longer["names"][name]) else {},
            )
            for name, rows in longer["conditions"].items()
        },
        "more": _ranked(found["more"]["rows"], {}),
        "fresh": _ranked(found["fresh"]["rows"], {}),
        "grad_match": markdown(
            ["table", "column", "method", "ours", "full training of the same time", "the source's", "verdict"],
            [
                [title, column, name, number(cell["speedup"]), number(cell["control_speedup"]), number(cell["printed"]),
                 SIGNS[cell["verdict"]]]
                for title, table in found["grad_match"]["tables"].items()
                for name, cells in table["rows"].items()
                for column, cell in cells.items()
            ],
        ),
    } | {name: _beside_source(found[name]["tables"]) for name in ("table_a1", "adonis", "ids")}  # fmt: skip


def _ranked(rows: dict[str, Row], more: dict[str, Callable[[Row], str]]) -> str:
    columns = {"accuracy in %": lambda row: percent(row["accuracy"]), "boost": lambda row: number(row["boost"])}
    columns |= {"lead in p.p.": lead, **more}
    lines = [[f"`{method}`", *[cell(row) for cell in columns.values()]] for method, row in rows.items()]
    return markdown(["method", *columns], lines)


def _beside_source(found: dict[str, Any]) -> str:
    """Ours and the printed figures; where full training was tested on its way, also the lead over stopping it."""
    told = {name: row for table in found.values() for name, row in table["rows"].items()}
    headings = ["", "drop in p.p.", "the source's", "boost", "the source's", "lead in p.p."]
    rows = [
        [name, number(row["figures"]["drop"]), number(row["printed"]["drop"]), number(row["figures"]["boost"]),
         number(row["printed"]["boost"]), lead(row)]
        for name, row in told.items()
    ]  # fmt: skip
    stopped = [_interval(**row["stopped"]) for row in told.values()]
    if any(stopped):
        headings = [*headings, "beside stopping"]
        rows = [[*cells, beside] for cells, beside in zip(rows, stopped, strict=True)]
    return markdown(headings, rows)


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A table, its first column to the left, the others to the right."""
    ruler = ["---", *["--:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [headings, ruler, *rows])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _matrix(folder: Path) -> dict[str, Any]:
    """A study of conditions: rows by method for each, the methods from the furthest ahead to the furthest behind."""
    found = _read(folder / "study.json")
    conditions = {name: {row["method"]: row for row in part["rows"]} for name, part in found["matrix"].items()}
    methods = [method for method in next(iter(conditions.values())) if method != "full"]
    return {
        "config": found["config"],
        "conditions": conditions,
        "names": {name: part["condition"] for name, part in found["matrix"].items()},
        "methods": sorted(methods, key=lambda m: -sum(rows[m][AHEAD] or 0 for rows in conditions.values())),
        "lines": {name: _line(folder / name) for name in conditions},
    }


def _comparison(folder: Path) -> dict[str, Any]:
    found = load(folder)
    return {"config": found.config, "rows": found.summary}


def _study(folder: Path) -> dict[str, Any]:
    found = _read(folder / "study.json")
    for table in found["tables"]:
        if "figures" in table:  # rows as those of a summary
            table["rows"] = {
                name: row | {AHEAD: row["ahead"], "noise_pp": row["noise"], "boost": row["figures"]["boost"]}
                for name, row in table["rows"].items()
            }
    return {"config": found["config"], "tables": {table["title"]: table for table in found["tables"]}}


def _line(folder: Path) -> list[tuple[float, list[float]]]:
    """Full trainings of other lengths: share of the whole one's, accuracies by seed; the whole one last."""
    shared = (None, LINE)  # not the controls made for one method
    runs = [run for run in load(folder).runs if run.method == FULL and run.control_for in shared]
    lengths = sorted({run.share or 1.0 for run in runs})
    return [(length, [run.accuracy for run in runs if (run.share or 1.0) == length]) for length in lengths]


def lead(row: Row, budget: str = "") -> str:
    """A lead over the control in p.p. with half its interval, and the verdict: ``+1.20 ± 0.50 ▲``. Empty for none."""
    if row[budget + AHEAD] is None:
        return ""
    return f"{_interval(row[budget + AHEAD], row[f'{budget}noise_pp'])} {SIGNS[row[f'{budget}verdict']]}"


def _interval(ahead: float | None, noise: float | None) -> str:
    return "" if ahead is None else f"{ahead:+z.2f} ± {noise:.2f}".replace("-", "\N{MINUS SIGN}")


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def words(condition: str) -> str:
    """A condition in plain words: ``noise=0.2+long-tail=10``."""
    told = " and ".join(_one_in_words(part) for part in condition.split("+"))
    return told[0].upper() + told[1:]


def _one_in_words(condition: str) -> str:
    kind, _, value = condition.partition("=")
    return {
        "clean": lambda: "clean images",
        "noise": lambda: (
            f"people's {value.partition(':')[0].removeprefix('human-')} labels"
            if value.startswith("human-")
            else f"{100 * float(value):.0f} % wrong labels"
        ),
        "redundant": lambda: f"every image {value} times, jittered",
        "repeated": lambda: f"{100 * float(value):.0f} % of the images many times",
        "crawled": lambda: f"{100 * float(value):.0f} % distinct images, and exact copies of these",
        "near-copies": lambda: f"{100 * float(value):.0f} % distinct images, and near-copies of these",
        "long-tail": lambda: f"a long tail, the largest class {value} times the smallest",
    }[kind]()


def listed(names: list[str]) -> str:
    """``a``, ``b`` and ``c`` as code."""
    coded = [f"`{name}`" for name in names]
    return coded[0] if len(coded) == 1 else f"{', '.join(coded[:-1])} and {coded[-1]}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
