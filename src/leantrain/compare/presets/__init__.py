"""Experiments by name: recordings to make, comparisons to run, and the figures that their sources printed.

Each is a YAML file beside this one; ``table-a1/cifar10-resnet18`` is ``table-a1/cifar10-resnet18.yaml``.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leantrain.train.config import read_yaml
from leantrain.utils import validation

Changes = dict[str, Any]  # settings of a comparison that differ from the preset's base
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """One table of a source: fixed-accuracy speed-ups by column, or figures of one comparison's summary.

    Args:
        title: what varies.
        rows: by heading, the method that gives the row.
        columns: of speed-ups; by heading, the comparison that gives the column.
        comparison, figures: of a summary; the comparison, and by heading the figure of its rows.
        printed: the source's own figures, by row and column.
    """

    title: str
    rows: dict[str, str]
    columns: dict[str, str] = field(default_factory=dict)
    comparison: str | None = None
    figures: dict[str, str] = field(default_factory=dict)
    printed: dict[str, dict[str, float]] = field(default_factory=dict)

    def comparisons(self) -> set[str]:
        """Those that it is made of."""
        return {*self.columns.values()} if self.comparison is None else {self.comparison}


@dataclass(frozen=True)
class Preset:
    """One experiment.

    Args:
        source: what is repeated, and what the source leaves open.
        protocol: how it is trained, in words, and where that differs from the source.
        data: what it is made for, in words.
        get: where that is to be had, and what to do with it.
        samples: training samples that the data have; None where any will do.
        hours: expected on one GPU.
        base: settings of every comparison; with ``data`` where those come with a package, and need no folder.
        here: changes of ``base`` for half an hour on two CPU cores, its settings of methods put over those of ``base``.
        recordings: by name, the method that is recorded and how its run differs from ``base``. Comparisons replay it
            as the method ``replay@NAME``.
        comparisons: by name, how each differs from ``base``.
        tables: of the source.
        matrix: whether what matters is every method under every comparison.
    """

    source: str
    data: str
    base: Changes
    recordings: dict[str, tuple[str, Changes]]
    comparisons: dict[str, Changes]
    tables: tuple[Table, ...] = ()
    matrix: bool = False
    protocol: str = ""
    get: str = ""
    samples: int | None = None
    hours: float | None = None
    here: Changes = field(default_factory=dict)


def names() -> list[str]:
    """All presets, in alphabetical order."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))


def load(name: str) -> Preset:
    """The preset called ``name``. ValueError, with the known ones, for another name."""
    content = read_yaml(FOLDER / f"{validation.one_of('preset', name, names())}.yaml")
    if whole := content.get("part_of"):
        part = _part(load(whole), content["tables"])
        return dataclasses.replace(part, here=part.here | content.get("here", {}))
    content["recordings"] = {key: (method, own) for key, (method, own) in content.get("recordings", {}).items()}
    content["tables"] = tuple(Table(**table) for table in content.get("tables", ()))
    return Preset(**content)


def _part(whole: Preset, titles: list[str]) -> Preset:
    """``whole`` with only these tables, and what they are made of."""
    tables = tuple(table for table in whole.tables if table.title in titles)
    wanted = {name for table in tables for name in table.comparisons()}
    comparisons = {}
    for name in whole.comparisons:
        if name in wanted:
            rows = {method for table in tables if name in table.comparisons() for method in table.rows.values()}
            listed = [method for method in whole.comparisons[name]["methods"] if method in rows or method == "full"]
            comparisons[name] = whole.comparisons[name] | {"methods": listed}
    replayed = set(_replayed(comparisons))
    recordings = {name: made for name, made in whole.recordings.items() if name in replayed}
    return dataclasses.replace(whole, tables=tables, comparisons=comparisons, recordings=recordings)


def _replayed(comparisons: dict[str, Changes]) -> Iterator[str]:
    for own in comparisons.values():
        yield from (name.removeprefix("replay@") for name in own["methods"] if name.startswith("replay@"))
