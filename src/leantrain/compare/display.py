"""What a comparison shows in the terminal: a progress bar with the time left, a line a finished run, the table."""

import math
from typing import Any

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from leantrain.compare.config import CompareConfig
from leantrain.compare.experiment import Job, jobs

CONTROL_SHARE = 0.7  # of full training's epochs: a guess for the bar until the methods' times are known


class Progress:
    """Context manager around a comparison; ``update`` is its ``on_epoch``."""

    def __init__(self, console: Console, config: CompareConfig) -> None:
        plain, controls = jobs(config)
        self.expected = {job: float(config.epochs) for job in plain}
        self.expected |= dict.fromkeys(controls, CONTROL_SHARE * config.epochs)
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
        self.done[job] += 1
        what = f"{job.method} seed {job.seed}" if job.control_for is None else f"control for {job.control_for}"
        ended = self.done[job] >= needed
        if ended:
            self.done[job] = int(self.expected[job])
            self.finished += 1
            note = "done before" if needed == 0 else f"{epochs:.4g} epochs"
            who = f"full, control for {job.control_for}" if job.control_for else job.method
            self.console.print(
                f"  {who:32s} seed {job.seed}  {100 * accuracy:6.2f} %  {note}", highlight=False, soft_wrap=True
            )
        share = sum(self.done.values()) / sum(self.expected.values())
        self.bar.update(self.task, description=what, completed=share * len(self.expected))


def table(results: dict[str, Any], width: int = 120) -> Table:
    """The summary as a table: what was saved, what it cost, and what the same time buys without selection.

    In terminals narrower than 105 columns the boost with pre-processing, the work and the spread are left out.
    """
    wide = width >= 105
    shown = Table(
        title="What selection saved, and what it cost",
        title_justify="left",
        caption_justify="left",
        box=HEAVY_HEAD if wide else SIMPLE_HEAD,
        padding=(0, 1) if wide else 0,
        pad_edge=wide,
    )
    columns = {"method": "left", "accuracy": "right", "drop": "right", "boost": "right"}
    columns |= {"with prep.": "right", "work": "right"} if wide else {}
    columns |= {"control": "right", "ahead": "right", "verdict": "left"}
    for heading, side in columns.items():
        shown.add_column(heading, justify=side, no_wrap=True)  # pyright: ignore[reportArgumentType]
    colours = {"beats control": "green", "loses to control": "red", "within noise": "yellow", None: ""}
    for row in results["summary"]:
        noise, lead, std = row["noise_pp"], row["control_accuracy_pp_ahead"], row["accuracy_std"]
        cells = {
            "method": row["method"],
            "accuracy": f"{100 * row['accuracy']:.2f}" + (f" ± {100 * std:.2f}" if std is not None and wide else ""),
            "drop": f"{row['accuracy_drop_pp']:+.2f}",
            "boost": f"{row['boost']:.2f}×",
            "with prep.": f"{row['boost_with_preprocessing']:.2f}×",
            "work": f"{row['work_ratio']:.2f}",
            "control": "" if lead is None else f"{100 * row['control_accuracy']:.2f}",
            "ahead": "" if lead is None else f"{lead:+.2f}" + (f" ± {noise:.2f}" if noise is not None else ""),
            "verdict": row["verdict"] or "",
        }
        shown.add_row(*(cells[heading] for heading in columns), style=colours[row["verdict"]])
    shown.caption = (
        "accuracy, control in %; drop, ahead in percentage points.\n"
        "boost: full training's time over the method's.\n"
        + ("work: (forward + 2 backward) against full training's.\n" if wide else "")
        + "control: accuracy of full training cut to the method's time.\n"
        "ahead: of that control, ± the 95 % noise of such a difference over seeds."
    )
    return shown


def speedups(study: dict[str, Any]) -> list[Table]:
    """A preset's tables of fixed-accuracy speed-ups: ours, the equal-time control's, the source's."""
    shown = []
    for table in study["tables"]:
        drawn = Table(
            title=f"Fixed-accuracy speed-up by {table['title']}",
            title_justify="left",
            caption="ours (equal-time control's; printed in the source), over full training",
            caption_justify="left",
        )
        drawn.add_column("method", no_wrap=True)
        for column, level in table["accuracy"].items():
            drawn.add_column(f"{column}\nat {100 * level:.1f} %", justify="right")
        for row, cells in table["rows"].items():
            texts = []
            for cell in cells.values():
                printed = "" if cell["printed"] is None else f"; {cell['printed']:.2f}"
                texts.append(f"{cell['speedup']:.2f}\n({cell['control_speedup']:.2f}{printed})")
            drawn.add_row(row, *texts)
        shown.append(drawn)
    return shown
