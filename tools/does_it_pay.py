"""Write docs/does-it-pay.md and its figures from the result files: python tools/does_it_pay.py

The page's words are in does_it_pay.md.j2, its figures in does_it_pay_figures.py. Every number comes from a file under
results/; nothing is trained here.
"""

import json
from pathlib import Path
from typing import Any

from does_it_pay_figures import draw
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "does-it-pay.md"
FIGURES = ROOT / "docs" / "does-it-pay"
SIGNS = {"beats control": "▲", "loses to control": "▼", "within noise": "="}

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
    environment.filters |= {"lead": lead, "sign": sign, "words": words, "listed": listed, "percent": percent}
    return environment.get_template("does_it_pay.md.j2").render(found)


def context(results: Path) -> dict[str, Any]:
    """What the page tells: the matrix of conditions, and the sources' tables, each as its result file has it."""
    matrix = _read(results / "conditions" / "study.json")
    conditions = {name: _by_method(found["rows"]) | {} for name, found in matrix["matrix"].items()}
    methods = [method for method in next(iter(conditions.values())) if method != "full"]
    methods.sort(key=lambda method: -sum(rows[method]["control_accuracy_pp_ahead"] for rows in conditions.values()))
    verdicts = {method: [rows[method]["verdict"] for rows in conditions.values()] for method in methods}
    return {
        "conditions": conditions,
        "facts": {name: {key: found[key] for key in ("condition", "limit")} for name, found in matrix["matrix"].items()},
        "methods": methods,
        "verdicts": verdicts,
        "config": matrix["config"],
        "environment": matrix["environment"],
        "lines": {name: _line(results / "conditions" / name) for name in conditions},
        "longer": _comparison(results / "cifar10-all-methods"),
        "table_a1": _study(results / "table-a1" / "cifar10-resnet18"),
        "adonis": _study(results / "sensitivity" / "adonis"),
        "ids": _study(results / "sensitivity" / "ids"),
        "grad_match": _study(results / "cached-grad-match"),
    }


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _by_method(rows: list[Row]) -> dict[str, Row]:
    return {row["method"]: row for row in rows}


def _comparison(folder: Path) -> dict[str, Any]:
    found = _read(folder / "results.json")
    return {"config": found["config"], "rows": _by_method(found["summary"])}


def _study(folder: Path) -> dict[str, Any]:
    found = _read(folder / "study.json")
    return {"config": found["config"], "scale": found.get("scale"), "tables": {t["title"]: t for t in found["tables"]}}


def _line(folder: Path) -> list[tuple[float, list[float]]]:
    """Full trainings of other lengths: share of the whole one's, accuracies by seed; the whole one last."""
    runs = [run for run in _read(folder / "results.json")["runs"] if run["method"] == "full"]
    lengths = sorted({run["share"] or 1.0 for run in runs})
    return [(length, [run["accuracy"] for run in runs if (run["share"] or 1.0) == length]) for length in lengths]


def lead(row: Row, budget: str = "") -> str:
    """A lead over the control in p.p., with half its 95 % interval: ``+1.20 ± 0.50``."""
    ahead, noise = row[f"{budget}control_accuracy_pp_ahead"], row[f"{budget}noise_pp"]
    return "no control" if ahead is None else f"{_signed(ahead)} ± {noise:.2f}"


def sign(row: Row, budget: str = "") -> str:
    """▲ beats its control, ▼ loses to it, = within noise."""
    return SIGNS.get(row[f"{budget}verdict"], "")


def words(condition: str) -> str:
    """A condition in plain words: ``noise=0.2+long-tail=10``."""
    return " and ".join(_one_in_words(part) for part in condition.split("+"))


def _one_in_words(condition: str) -> str:
    kind, _, value = condition.partition("=")
    return {
        "clean": lambda: "clean images",
        "noise": lambda: f"{100 * float(value):.0f} % wrong labels",
        "redundant": lambda: f"every image {value} times, jittered",
        "repeated": lambda: f"{100 * float(value):.0f} % of the images many times",
        "long-tail": lambda: f"a long tail, the largest class {value} times the smallest",
    }[kind]()


def listed(names: list[str]) -> str:
    """``a``, ``b`` and ``c`` as code."""
    coded = [f"`{name}`" for name in names]
    return coded[0] if len(coded) == 1 else f"{', '.join(coded[:-1])} and {coded[-1]}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


if __name__ == "__main__":
    main()
