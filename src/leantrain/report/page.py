"""The report: one HTML file that needs nothing else, no network and no script."""

import dataclasses
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from leantrain.compare.results import FULL, Results
from leantrain.report import losses, shares, table, verdict
from leantrain.report.counts import FILE as COUNTS
from leantrain.report.counts import NO_LABEL, Counts, by_content, load_counts
from leantrain.report.figures import plots, selected_samples
from leantrain.report.figures.kept_share import FILE as METRICS
from leantrain.report.figures.style import looks
from leantrain.report.picks import Images, Strip, least_and_most, of_class, picture
from leantrain.report.results import load
from leantrain.utils import validation
from leantrain.utils.atomic_write import write_text

NAME = "report.html"


def write(out: Path | str, images: Images | None = None, show_class: str | None = None) -> Path:
    """Write ``report.html`` into the results folder `out` and give its path.

    Args:
        images: sample index -> its picture, uint8 of shape (H, W) or (H, W, 3). None: no pictures.
        show_class: name of the class whose pictures are shown beside those of all; by default that of the
            configuration, where the data have it, else the first.

    The file is replaced in one step: where anything fails, an earlier report stays as it was. Raises
    FileNotFoundError or ValueError, naming the file, for a folder that is missing, cut off or of another schema.
    """
    path = Path(out) / NAME
    write_text(path, render(load(out), images, show_class))
    return path


def render(results: Results, images: Images | None = None, show_class: str | None = None) -> str:
    """The page as text. Everything that comes from a file is escaped; the figures are ours."""
    counts = load_counts(results)
    shown = by_content(counts or [], plots.SELECTED)
    label = _label(results, counts or [], show_class)
    drawn = plots.draw_all(results, shown)
    classes = shares.class_table(results, counts or [])
    headline, caveat = verdict.sentences(results)
    # StrictUndefined: a name missing in the template is our mistake, not an empty spot in the page.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("leantrain.report").joinpath("template.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        title=_title(results),
        headline=headline,
        caveat=caveat,
        facts=_facts(results),
        rows=table.rows(results),
        extra=table.extra(results),
        by_clock=any("boost_by_clock" in row for row in results.summary.values()),
        interval=any(results.value(m, "noise_pp") is not None for m in results.methods),
        paired=sum(results.value(m, "p_holm") is not None for m in results.methods),
        line=bool(results.line()),
        seeds=len({run.seed for run in results.of(FULL)}),
        looks=looks(results.methods),
        # Markup: made by matplotlib from escaped text, see plots.svg
        figures={name: Markup(plots.svg(name, figure)) for name, figure in drawn.items()},
        strips=[_strips(results, c, images, label) for c in shown] if images else [],
        left_out=[c.method for c in counts or [] if c not in shown],
        classes=classes,
        contrasts=selected_samples.contrasts(shown, classes),
        lost=losses.classes_lost(results, counts or []),
        class_name=results.class_name,
        has_images=images is not None,
        missing=[name for name in (METRICS, COUNTS) if not (results.folder / name).exists()],
        settings=_settings(results),
        environment=_flat(results.environment, skip=("classes",)),
        config=_flat(results.config, skip=("classes",)),
    )


def _title(results: Results) -> str:
    parts = [str(results.config[key]) for key in ("data", "model") if results.config.get(key)]
    return " · ".join(parts) or "comparison"


def _facts(results: Results) -> list[str]:
    """The configuration in a line."""
    config = results.config
    seeds = sorted({run.seed for run in results.of(FULL)})
    facts = [f"{config[key]} {word}" for key, word in (("epochs", "epochs"),) if key in config]
    facts += [f"batch size {config['batch_size']}"] if "batch_size" in config else []
    facts.append(f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))})")
    others = len(results.methods) - 1
    facts.append(f"{others} method{'' if others == 1 else 's'} and full training")
    condition = config.get("condition", "clean")
    facts += [f"training set under {condition}"] if condition != "clean" else []
    facts += [str(config["note"])] if config.get("note") else []
    device = results.environment.get("device")
    return facts + ([str(device)] if device else [])


def _label(results: Results, counts: list[Counts], show_class: str | None) -> int | None:
    """The class whose pictures are shown; None where nothing is labelled."""
    labels = sorted(set().union(*(np.unique(c.label).tolist() for c in counts)) - {NO_LABEL})
    names = {results.class_name(label): label for label in labels}
    if show_class is not None:
        return names[validation.one_of("class", show_class, names)]
    return names.get(str(results.config.get("show_class")), labels[0] if labels else None)


def _strips(results: Results, counts: Counts, images: Images, label: int | None) -> dict[str, Any]:
    def shown(strip: Strip) -> dict[str, Any]:
        pictures = [
            dataclasses.asdict(pick) | {"src": picture(images, pick.index), "name": _name(results, pick.label)}
            for pick in strip.picks
        ]
        return {"what": strip.what, "pictures": pictures, "alike": strip.alike}

    alone = None if label is None else of_class(counts, label)
    rows = [] if alone is None or label is None else [(f"class {_name(results, label)}", alone)]
    rows.append(("all classes", least_and_most(counts)))

    return {
        "method": counts.method,
        "mean": float(counts.trained.mean()),
        "low": float(counts.trained.min()),
        "high": float(counts.trained.max()),
        "rows": [(whose, [shown(strip) for strip in strips]) for whose, strips in rows],
    }


def _name(results: Results, label: int) -> str:
    return "" if label == NO_LABEL else results.class_name(label)


def _settings(results: Results) -> list[tuple[str, list[tuple[str, str]], list[tuple[str, str]]]]:
    """Per method: its settings, and the events that it counted over all seeds, each as name and value."""
    found = []
    for method in results.methods:
        runs = results.of(method)
        names = dict.fromkeys(name for run in runs for name, count in run.events.items() if count)
        events = [(name, f"{sum(run.events.get(name, 0) for run in runs):,.10g}") for name in names]
        found.append((method, _flat(runs[0].settings), events))
    return found


def _flat(values: dict[str, Any], prefix: str = "", skip: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Nested names joined by dots; values as JSON, text as it is, nulls left out."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if key in skip or value is None:
            continue
        if isinstance(value, dict) and value:
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return pairs
