"""Write the README's table anew from the result file that it names. Run after a new result was committed."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
HEAD = """\
| method | accuracy % | drop p.p. | boost | with pre-processing | equal-time control % | ahead of it p.p. | verdict |
|---|---|---|---|---|---|---|---|
"""


def row(summary: dict[str, Any]) -> str:
    spread = summary["accuracy_std"]
    cells = [
        f"`{summary['method']}`",
        f"{100 * summary['accuracy']:.2f}" + (f" ± {100 * spread:.2f}" if spread is not None else ""),
        f"{summary['accuracy_drop_pp']:+.2f}",
        f"{summary['boost']:.2f}×",
        f"{summary['boost_with_preprocessing']:.2f}×",
    ]
    if summary["verdict"]:
        noise = summary["noise_pp"]
        cells += [
            f"{100 * summary['control_accuracy']:.2f}",
            f"{summary['control_accuracy_pp_ahead']:+.2f}" + (f" ± {noise:.2f}" if noise is not None else ""),
            summary["verdict"],
        ]
    else:
        cells += [""] * 3
    return f"| {' | '.join(cells)} |\n"


def filled(readme: str) -> str:
    def table(found: re.Match[str]) -> str:
        results = json.loads((ROOT / found[2] / "results.json").read_text())
        return found[1] + HEAD + "".join(map(row, results["summary"])) + found[3]

    return MARKED.sub(table, readme)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
