"""Rows of the main table: the summary's numbers beside those of the equal-time control."""

from dataclasses import dataclass, replace

from leantrain.compare.results import BEATS, FULL, LOSES, NOISE, UNKNOWN, Results
from leantrain.data.conditions import unbalanced
from leantrain.report.results import mean_std
from leantrain.report.verdict import noise

DASH = "–"
BADGES = {BEATS: ("beats", "▲"), NOISE: ("noise", "●"), LOSES: ("loses", "▼"), UNKNOWN: ("unknown", "?")}


@dataclass(frozen=True)
class Cell:
    """What is printed, the unrounded value behind it (None: not available), the small print below, a hint."""

    text: str
    value: float | None
    below: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method. `badge` is (CSS class, sign, words): the sign and words carry it without colour."""

    method: str
    cells: tuple[Cell, ...]
    badge: tuple[str, str, str]


def rows(results: Results) -> list[Row]:
    """One row per method, ``full`` first. Percentages and p.p. have two decimals, as have boosts."""
    return [_row(results, method) for method in results.methods]


def _row(results: Results, method: str) -> Row:
    runs, full = results.of(method), method == FULL
    accuracy, spread = mean_std([100 * run.accuracy for run in runs])
    verdict = results.verdict(method)
    cells = (
        _cell(accuracy, "{:.2f}", spread),
        _cell(
            results.value(method, "accuracy_drop_pp"),
            "{:.2f}",
            None if full else results.value(method, "accuracy_drop_std"),
        ),
        _boost(results, method),
        _cell(results.value(method, "boost_with_preprocessing"), "{:.2f}×"),
        _boost_to_5pp(results, method),
        _cell(results.value(method, "work_ratio"), "{:.2f}"),
        _cell(_selecting(results, method), "{:.1f} %"),
        _control(results, method),
        _cell(results.value(method, "control_accuracy_pp_ahead"), "{:+.2f}", noise(results, method)),
    )
    if full:
        badge = ("reference", "■", "reference")
    else:
        badge = (*BADGES.get(verdict or "", ("unknown", "?")), verdict or "not judged")
    return Row(method=method, cells=cells, badge=badge)


def _cell(value: float | None, form: str, spread: float | None = None, missing: str = "not available") -> Cell:
    if value is None:
        return Cell(DASH, None, note=missing)
    return Cell(form.format(value).replace("-", "−"), value, "" if spread is None else f"± {spread:.2f}")


def _boost(results: Results, method: str) -> Cell:
    cell, clock = _cell(results.value(method, "boost"), "{:.2f}×"), results.value(method, "boost_by_clock")
    return cell if clock is None else replace(cell, note=f"by the clock: {clock:.2f}×")


def _boost_to_5pp(results: Results, method: str) -> Cell:
    """Against full training's own time to that accuracy, not its whole time, which would flatter full training too."""
    whole, reference = results.value(method, "boost_to_5pp"), results.value(FULL, "boost_to_5pp")
    if not whole or not reference:
        return _cell(None, "", missing="never within 5 p.p. of full training")
    return replace(
        _cell(whole / reference, "{:.2f}×"), note=f"over the whole time of full training, as the sources: {whole:.2f}×"
    )


def _control(results: Results, method: str) -> Cell:
    if controls := results.controls(method):
        accuracy, spread = mean_std([100 * run.accuracy for run in controls])
        epochs, note = mean_std([run.epochs for run in controls])[0], "full training for {:.2f} epochs"
    else:
        share, epochs = results.value(method, "control_accuracy"), results.value(method, "control_epochs")
        if share is None or epochs is None:
            return _cell(None, "", missing="" if method == FULL else "no control was run")
        accuracy, spread = 100 * share, None
        note = "read off the line of full trainings at {:.2f} epochs"
    cell = _cell(accuracy, "{:.2f}", spread)
    below = f"{cell.below}, {epochs:.1f} ep." if cell.below else f"{epochs:.1f} ep."
    return Cell(cell.text, cell.value, below, note.format(epochs))


def extra(results: Results) -> list[tuple[str, str, dict[str, Cell]]]:
    """Columns of some comparisons only: heading, what it means, a cell a method.

    Accuracies over classes where the condition leaves classes of different sizes; the control of the same work where
    there is one.
    """
    columns: list[tuple[str, str, dict[str, Cell]]] = []
    if unbalanced(str(results.config.get("condition", ""))):
        said = (
            "Mean over the classes of the accuracy on each; that over the third of the classes with the fewest "
            "training samples, beside the control's."
        )
        balanced = {method: _percent(results, method, "balanced_accuracy") for method in results.methods}
        rare = {
            method: replace(
                _percent(results, method, "rare_classes_accuracy"),
                below=_beside(results.value(method, "control_rare_classes_accuracy")),
            )
            for method in results.methods
        }
        columns += [("balanced accuracy, %", said, balanced), ("rare classes, %", "", rare)]
    if any("work_verdict" in row for row in results.summary.values()):
        said = (
            "The method minus full training cut to the same work ratio instead of the same time: what would be left of "
            "the lead if choosing samples cost nothing but passes through the model."
        )
        cells = {}
        for method in results.methods:
            lead = results.value(method, "work_control_accuracy_pp_ahead")
            cell = _cell(lead, "{:+.2f}", results.value(method, "work_noise_pp"), missing="")
            cells[method] = replace(cell, note=results.verdict(method, "work_verdict") or cell.note)
        columns.append(("minus equal‑work control, p.p.", said, cells))
    return columns


def _percent(results: Results, method: str, key: str) -> Cell:
    value = results.value(method, key)
    return _cell(None if value is None else 100 * value, "{:.2f}")


def _beside(share: float | None) -> str:
    return "" if share is None else f"control {100 * share:.2f}"


def _selecting(results: Results, method: str) -> float | None:
    """Per cent of the training time; the summary's own share where it gives one."""
    given, runs = results.value(method, "selection_share"), results.of(method)
    if given is not None:
        return 100 * given
    seconds = sum(run.seconds for run in runs)
    return 100 * sum(run.selection_seconds for run in runs) / seconds if seconds > 0 else None
