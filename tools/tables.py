"""Write the README's tables and the cards' measurements anew, from the result files that they name.

Run it after a new result was committed or a card was added or changed.
"""

import re
from pathlib import Path
from typing import Any

from leantrain.report import load

ROOT = Path(__file__).resolve().parent.parent
MEASURED = re.compile(r"(<!-- measured: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
CARDS = re.compile(r"(<!-- cards: (\S+) -->\n).*?(<!-- end of cards -->)", re.DOTALL)
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


def card_row(path: Path) -> str:
    """A method's name, linked to its card; what the card's first sentence says; the source, without its details."""
    text = path.read_text()
    body = text.partition("\n- **")[0]
    names = re.search(r"- \*\*Names?:\*\* (.*)\.", text)
    source = re.search(r"- \*\*Source:\*\* (.*?)(?:\.\s|;|\. |$)", text, re.DOTALL)
    assert names, f"{path} lacks its **Name:** line"
    assert source, f"{path} lacks its **Source:** line"
    sentence = re.split(r"(?<=[.])\s", body.split("\n\n")[1])[0]
    where = re.sub(r", (Algorithm|Eq|Table).*", "", " ".join(source[1].split()))
    link = f"[{', '.join(re.findall(r'(`[^`]+`) [(]', names[1]))}]({path.relative_to(ROOT)})"
    return f"| {link} | {' '.join(sentence.split())} | {where} |\n"


def measured(card: str) -> str:
    """``card`` with its line of measurements from the result file that it names."""

    def line(found: re.Match[str]) -> str:
        results = load(ROOT / found[2])
        config, rows = results.config, results.summary
        names = re.findall(r"`([\w-]+)` [(]", re.findall(r"\*\*Names?:\*\* .*", card)[0])
        data = "CIFAR-10" if "cifar10" in config["data"] else config["data"]
        count = f", {config['limit']:,} images" if config["limit"] else ""
        told = f"{data}{count}, {config['epochs']} epochs, {len(config['seeds'])} seeds"
        where = f"[file](../../{found[2]}/results.json)"
        outcomes = "; ".join(outcome(rows[name]) for name in names)
        return f"{found[1]}- **Measured:** {told} ({where}): {outcomes}.\n{found[3]}"

    return MEASURED.sub(line, card)


def outcome(row: dict[str, Any]) -> str:
    text = f"`{row['method']}` {100 * row['accuracy']:.2f} %"
    if row["verdict"] is None:
        return text
    lead, noise = row["control_accuracy_pp_ahead"], row["noise_pp"]
    boost = f"boost {row['boost']:.2f}×, {row['boost_with_preprocessing']:.2f}× with pre-processing"
    return f"{text}, {boost}, ahead of its equal-time control by {lead:+.2f} ± {noise:.2f} p.p.: {row['verdict']}"


def filled(readme: str) -> str:
    def table(found: re.Match[str]) -> str:
        results = load(ROOT / found[2])
        note = f"\n{results.config['note']}\n" if results.config.get("note") else ""
        return found[1] + HEAD + "".join(map(row, results.summary.values())) + note + found[3]

    def cards(found: re.Match[str]) -> str:
        head = "| name | what it does | source |\n|---|---|---|\n"
        return found[1] + head + "".join(map(card_row, sorted((ROOT / found[2]).glob("*.md")))) + found[3]

    return CARDS.sub(cards, MARKED.sub(table, readme))


if __name__ == "__main__":
    for card in sorted((ROOT / "docs" / "methods").glob("*.md")):
        card.write_text(measured(card.read_text()))
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
