"""What commands show in the terminal: a comparison's progress bar, a line a finished run; tables."""

import math
from typing import Any

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from leantrain.compare.config import CompareConfig
from leantrain.compare.job import Job, jobs
from leantrain.compare.results import BEATS, LOSES, NOISE
from leantrain.data.conditions import unbalanced
from leantrain.estimation.inspection import Inspection

COLOURS = {BEATS: "green", LOSES: "red", NOISE: "yellow"}
SIGNS = {BEATS: " ▲", LOSES: " ▼"}
CONTROL_SHARE = 0.7  # of full training's epochs: a guess for the bar until the methods' times are known


class Progress:
    """Context manager around a comparison; ``update`` is its ``on_epoch``."""

    def __init__(self, console: Console, config: CompareConfig) -> None:
        plain, controls = jobs(config)
        self.expected = {job: float(config.epochs) for job in plain}
        self.expected |= {job: (job.share or CONTROL_SHARE) * config.epochs for job in controls}
        self.done = dict.fromkeys(self.expected, 0)
        self.finished = 0
        self.console = console
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("runs,"),
            TimeElapsedColumn(),
            TextColumn("gone,"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("left"),
            console=console,
        )
        self.task = self.bar.add_task("starting", total=len(self.expected))

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.stop()

    def update(self, job: Job, epochs: float, accuracy: float) -> None:
        """One more epoch of ``job`` is done, of ``epochs``; 0 for a run that was finished before."""
        needed = math.ceil(epochs)
        self.expected[job] = max(needed, 1)
        self.done[job] = self.done.get(job, 0) + 1
        what = f"control for {job.control_for}" if job.share is None else "control for all"
        what = f"{job.method} seed {job.seed}" if job.control_for is None else what
        ended = self.done[job] >= needed
        if ended:
            self.done[job] = int(self.expected[job])
            self.finished += 1
            note = "done before" if needed == 0 else f"{epochs:.4g} epochs"
            who = job.method if job.control_for is None else f"full, {what}"
            self.console.print(
                f"  {who:32s} seed {job.seed}  {100 * accuracy:6.2f} %  {note}", highlight=False, soft_wrap=True
            )
        share = sum(self.done.values()) / sum(self.expected.values())
        self.bar.update(self.task, description=what, completed=share * len(self.expected), total=len(self.expected))


def table(results: dict[str, Any], width: int = 120) -> Table:
    """The summary as a table: what was saved, what it cost, and what the same time buys without selection.

    Where `width` columns do not hold it, spread, lines and columns go, in the order of ``SPARED``; no cell is cut.
    Under a condition that leaves classes of different sizes, the accuracy over the rare ones stands beside that of all.
    """
    shown = _summary(results, wide=True, spared=())
    for count in range(len(SPARED) + 1):
        if _width(shown) <= width:
            break
        shown = _summary(results, wide=False, spared=SPARED[:count])
    return shown


# What a narrow table does without, the first to go first: other columns or the report tell it too.
SPARED = ("with prep.", "work", "by work", "verdict by work", "balanced", "drop", "control", "rare classes")


def _width(shown: Table) -> int:
    """Columns that a table takes where there is room for all of it, its caption aside."""
    return Console(width=1000).measure(shown).maximum


def _summary(results: dict[str, Any], wide: bool, spared: tuple[str, ...]) -> Table:
    tailed = unbalanced(results["config"].get("condition", "clean"))
    shown = Table(
        title="What selection saved, and what it cost",
        title_justify="left",
        caption_justify="left",
        box=HEAVY_HEAD if wide else SIMPLE_HEAD,
        padding=(0, 1) if wide else 0,
        pad_edge=wide,
    )
    by_work = any("work_verdict" in row for row in results["summary"])
    columns = ["method", "accuracy", *(["balanced", "rare classes"] if tailed else []), "drop", "boost", "with prep."]
    columns += ["work", "control", "ahead", "verdict", *(["by work", "verdict by work"] if by_work else [])]
    columns = [heading for heading in columns if heading not in spared]
    for heading in columns:
        left = heading in ("method", "verdict", "verdict by work")
        # A name that is wider than all is folded; nothing else is.
        shown.add_column(heading, justify="left" if left else "right", no_wrap=heading != "method", overflow="fold")
    for row in results["summary"]:
        noise, lead, std = row["noise_pp"], row["control_accuracy_pp_ahead"], row["accuracy_std"]
        cells = {
            "method": row["method"],
            "accuracy": f"{100 * row['accuracy']:.2f}" + (f" ± {100 * std:.2f}" if std is not None and wide else ""),
            "balanced": _percent(row.get("balanced_accuracy")),
            "rare classes": _percent(row.get("rare_classes_accuracy")),
            "drop": f"{row['accuracy_drop_pp']:+.2f}",
            "boost": f"{row['boost']:.2f}×",
            "with prep.": f"{row['boost_with_preprocessing']:.2f}×",
            "work": f"{row['work_ratio']:.2f}",
            "control": "" if lead is None else f"{100 * row['control_accuracy']:.2f}",
            "ahead": _ahead(lead, noise),
            "verdict": row["verdict"] or "",
            "by work": _ahead(row.get("work_control_accuracy_pp_ahead"), row.get("work_noise_pp")),
            "verdict by work": row.get("work_verdict") or "",
        }
        shown.add_row(*(cells[heading] for heading in columns), style=COLOURS.get(row["verdict"], ""))
    judged = sum(row.get("noise_from") == "pairs" for row in results["summary"])
    shown.caption = (
        "accuracy, control in %; drop, ahead in percentage points.\n"
        "boost: full training's time over the method's.\n"
        + ("work: (forward + 2 backward) against full training's.\n" if "work" in columns else "")
        + "control: accuracy of full training cut to the method's time.\n"
        "ahead: of that control, ± the 95 % noise of such a difference over seeds."
        + (f"\nverdict: paired by seed, corrected for {judged} methods (Holm)." if judged else "")
        + ("\nby work: ahead of full training cut to the method's work." if "by work" in columns else "")
    )
    return shown


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _ahead(lead: float | None, noise: float | None) -> str:
    return "" if lead is None else f"{lead:+.2f}" + ("" if noise is None else f" ± {noise:.2f}")


def matrix(study: dict[str, Any], width: int = 120) -> Table:
    """Leads over the equal-time control: a row a method, a column a comparison, each with its verdict.

    Where `width` columns do not hold it, the noise stands below its lead.
    """
    shown = _matrix(study["matrix"], stacked=False)
    return shown if _width(shown) <= width else _matrix(study["matrix"], stacked=True)


def _matrix(found: dict[str, Any], stacked: bool) -> Table:
    shown = _by_method(
        "Ahead of the equal-time control in p.p., by condition",
        "± 95 % interval over seeds; ▲ beats its control, ▼ loses to it, others are within noise.",
    )
    for name in found:
        shown.add_column(name, justify="right", overflow="fold")
    methods = dict.fromkeys(row["method"] for column in found.values() for row in column["rows"])
    for method in [name for name in methods if name != "full"]:
        cells = []
        for column in found.values():
            row = next((row for row in column["rows"] if row["method"] == method), {})
            lead, noise = row.get("control_accuracy_pp_ahead"), row.get("noise_pp")
            sign = SIGNS.get(row.get("verdict", ""), "")
            spread = "" if noise is None else f"± {noise:.2f}"
            cells.append(f"{_ahead(lead, None)}{sign}\n{spread}" if stacked else _ahead(lead, noise) + sign)
        shown.add_row(method, *cells)
    return shown


def _by_method(title: str, caption: str) -> Table:
    """A table without columns as yet but that of the methods' names."""
    begun = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    begun.add_column("method", no_wrap=True)
    return begun


def tables(study: dict[str, Any]) -> list[Table]:
    """A preset's tables: our figures beside the source's."""
    return [_figures(table) if "figures" in table else _speedups(table) for table in study["tables"]]


def _figures(table: dict[str, Any]) -> Table:
    """Figures of the summary, each as ours / the source's, and what our control says."""
    drawn = _by_method(table["title"], "ours / printed in the source; ahead: of the equal-time control, in p.p.")
    for heading in (*table["figures"], "ahead"):
        drawn.add_column(heading, justify="right")
    drawn.add_column("verdict")
    for method, row in table["rows"].items():
        ours = [f"{_number(row['figures'][column])} / {_number(row['printed'][column])}" for column in table["figures"]]
        ahead = "–" if row["ahead"] is None else f"{row['ahead']:+.2f}"
        drawn.add_row(method, *ours, ahead, row["verdict"] or "")
    return drawn


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _speedups(table: dict[str, Any]) -> Table:
    """Fixed-accuracy speed-ups: ours, the equal-time control's, the source's."""
    drawn = _by_method(
        f"Fixed-accuracy speed-up by {table['title']}",
        "ours (equal-time control's; printed in the source), over full training",
    )
    for column, level in table["accuracy"].items():
        drawn.add_column(f"{column}\nat {100 * level:.1f} %", justify="right")
    for row, cells in table["rows"].items():
        texts = []
        for cell in cells.values():
            printed = "" if cell["printed"] is None else f"; {cell['printed']:.2f}"
            control = "–" if cell["control_speedup"] is None else f"{cell['control_speedup']:.2f}"
            texts.append(f"{cell['speedup']:.2f}\n({control}{printed})")
        drawn.add_row(row, *texts)
    return drawn


def facts(found: Inspection) -> Table:
    """What was looked at in a data set, and what was seen there."""
    shown = _plain("What is there", "looked at", "found")
    for name, text in found.facts().items():
        shown.add_row(name, Text(text, "dim" if text.startswith("not looked at") else ""))
    return shown


def advice(found: Inspection) -> Table:
    """Which methods are expected to pay, why, and which file says so."""
    shown = _plain("What is expected to pay", "method", "why", "measured in")
    for one in found.advice():
        shown.add_row(one.method, one.why, one.evidence)
    return shown


def _plain(title: str, *headings: str) -> Table:
    """A table of text: the first column as wide as its words, the others folded."""
    begun = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        begun.add_column(heading, no_wrap=heading == headings[0], overflow="fold")
    return begun
