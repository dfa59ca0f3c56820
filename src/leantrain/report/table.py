"""Rows of the main table: the summary's numbers beside those of the equal-time control."""

from dataclasses import dataclass, replace

from .results import FULL, Results, mean_std, number
from .verdict import BEATS, LOSES, NOISE, noise

DASH = "–"
BADGES = {BEATS: ("beats", "▲"), NOISE: ("noise", "●"), LOSES: ("loses", "▼")}


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
    controls = results.controls(method)
    accuracy, spread = mean_std([100 * run.accuracy for run in runs])
    verdict = results.summary.get(method, {}).get("verdict")
    cells = (
        _cell(accuracy, "{:.2f}", spread),
        _cell(
            results.value(method, "accuracy_drop_pp"),
            "{:.2f}",
            None if full else results.value(method, "accuracy_drop_std"),
        ),
        _boost(results, method),
        _cell(results.value(method, "boost_with_preprocessing"), "{:.2f}×"),
        _cell(results.value(method, "boost_to_5pp"), "{:.2f}×", missing="never within 5 p.p. of full training"),
        _cell(results.value(method, "work_ratio"), "{:.2f}"),
        _cell(_selecting(results, method), "{:.1f} %"),
        _control(results, method) if controls else _cell(None, "", missing="" if full else "no control was run"),
        _cell(results.value(method, "control_accuracy_pp_ahead"), "{:+.2f}", noise(results, method)),
    )
    if full:
        badge = ("reference", "■", "reference")
    else:
        kind, sign = BADGES.get(verdict, ("unknown", "?")) if isinstance(verdict, str) else ("unknown", "?")
        badge = (kind, sign, str(verdict) if verdict else "not judged")
    return Row(method=method, cells=cells, badge=badge)


def _cell(value: float | None, form: str, spread: float | None = None, missing: str = "not available") -> Cell:
    if value is None:
        return Cell(DASH, None, note=missing)
    return Cell(form.format(value).replace("-", "−"), value, "" if spread is None else f"± {spread:.2f}")


def _boost(results: Results, method: str) -> Cell:
    cell, clock = _cell(results.value(method, "boost"), "{:.2f}×"), results.value(method, "boost_by_clock")
    return cell if clock is None else replace(cell, note=f"by the clock: {clock:.2f}×")


def _control(results: Results, method: str) -> Cell:
    controls = results.controls(method)
    accuracy, spread = mean_std([100 * run.accuracy for run in controls])
    epochs = mean_std([run.epochs for run in controls])[0]
    cell = _cell(accuracy, "{:.2f}", spread)
    below = f"{cell.below}, {epochs:.1f} ep." if cell.below else f"{epochs:.1f} ep."
    return Cell(cell.text, cell.value, below, f"full training for {epochs:.2f} epochs")


def _selecting(results: Results, method: str) -> float | None:
    """Per cent of the training time; the summary's own share where it gives one."""
    given = number(results.summary.get(method, {}).get("selection_share"))
    if given is not None:
        return 100 * given
    runs = results.of(method)
    seconds = sum(run.train_seconds for run in runs)
    return 100 * sum(run.selection_seconds for run in runs) / seconds if seconds > 0 else None
