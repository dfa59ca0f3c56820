"""``inspect``: what can be known of a data set before it is trained on, and which method that calls for.

N = size of the data set, M = samples that the sampler can give.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from leantrain.core.run import Goal, Run
from leantrain.estimation.forecast import Estimate, Forecast
from leantrain.estimation.rehearsal import unmoved_randomness
from leantrain.loader import dataloader
from leantrain.loader.wrap import wrap
from leantrain.methods.auto import LEAST_SIDE
from leantrain.methods.class_cap import TAIL, typical
from leantrain.methods.distinct import Distinct
from leantrain.methods.full import Full
from leantrain.methods.input_size import InputSize
from leantrain.methods.label_guard import LabelGuard
from leantrain.utils import nested_batch
from leantrain.utils.dataloader_copy import copy_with

LEAST_SHARE = 0.01  # of the samples that must be repeats: leaving out fewer saves less than timings tell
READ = 8  # samples that are read for their size

FEWER = "fewer epochs"
# The file of ours that says how far a method is ahead where it is expected to be; None where none is kept.
EVIDENCE = {
    "distinct": None,
    "class-cap": None,
    "label-guard": None,
    "input-size": None,
    FEWER: "results/conditions/study.json",
}


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A method that is expected to pay.

    Args:
        method: its name, or ``"fewer epochs"``, plain training cut short.
        why: what in the data calls for it, and what it saves.
    """

    method: str
    why: str

    @property
    def evidence(self) -> str:
        """The result file that says so."""
        return EVIDENCE[self.method] or "not measured here yet"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What ``leantrain.inspect`` found; ``print`` shows it.

    Args:
        size: M.
        goal: what the model is for; None where nobody said.
        classes: samples of each class label; None without labels. Negative ones are to be ignored, and do not count.
        once: the same, of exact repeats only one.
        repeats: samples that repeat another one of their class; None where ``hidden`` says why that is not known.
        conflicts: indices of samples that are stored alike and have different labels.
        hidden: see ``repeats``.
        sides: (height, width) in pixels of the images in a batch, each once; empty without images.
        unreadable: indices of those that could not be read for it.
        guarded: whether a ``LabelGuard`` left samples out; None where none was asked.
        wrong_labels: share of wrong labels that it found; None where it could not tell.
        full: what full training costs; None where that was not measured.
    """

    size: int
    goal: Goal | None
    classes: dict[int, int] | None
    once: dict[int, int] | None
    repeats: int | None
    conflicts: tuple[int, ...]
    hidden: str
    sides: tuple[tuple[int, int], ...]
    unreadable: tuple[int, ...]
    guarded: bool | None = None
    wrong_labels: float | None = None
    full: Forecast | None = None

    @property
    def tailed(self) -> bool:
        """Whether the largest class, repeats counted once, is large enough for ``ClassCap`` to act."""
        return bool(self.once) and max(self.once.values()) > TAIL * _median(self.once)

    def facts(self) -> dict[str, str]:
        """What was looked at, in words; and of what was not, how it would be."""
        return {
            "classes": self._classes_in_words(),
            "exact repeats": self._repeats_in_words(),
            "conflicting labels": self._conflicts_in_words(),
            "wrong labels": self._wrong_in_words(),
            "image size": self._sides_in_words(),
            "bound by": self._bound_in_words(),
        }

    def advice(self) -> tuple[Advice, ...]:
        """The methods that are expected to pay, in the order in which they compose; plain training if none is."""
        found = [self._distinct(), self._class_cap(), self._label_guard(), self._input_size()]
        advised = tuple(Advice(method=method, why=why) for method, why in filter(None, found))
        return advised or (
            Advice(
                method=FEWER,
                why="nothing that was looked at calls for a method, and without that none of ours was ahead of full "
                "training cut to the same time",
            ),
        )

    def _distinct(self) -> tuple[str, str] | None:
        if self.repeats is None or self.repeats < LEAST_SHARE * self.size:
            return None
        return "distinct", f"leaves out {self.repeats / self.size:.0%} of the samples: repeats of others"

    def _class_cap(self) -> tuple[str, str] | None:
        if self.goal != "balanced" or not self.tailed:
            return None
        assert self.once is not None
        left = sum(min(count, round(_median(self.once))) for count in self.once.values())
        return "class-cap", (
            f"no class above the median one: {left:,} samples an epoch, and rare classes count as much as others; "
            "adding log class shares to the logits in the loss gives much of it without"
        )

    def _label_guard(self) -> tuple[str, str] | None:
        return ("label-guard", f"about {self.wrong_labels:.0%} of the labels look wrong") if self.guarded else None

    def _input_size(self) -> tuple[str, str] | None:
        sides = InputSize.sides
        if not self.sides or min(map(min, self.sides)) < LEAST_SIDE or (self.full and self.full.bound == "loading"):
            return None
        pixels = len(sides) / sum(1 / side**2 for side in sides)
        return "input-size", f"smaller images first: {pixels:.0%} of the pixels of full training"

    def _classes_in_words(self) -> str:
        if not self.classes:
            return "not looked at: no labels are known; inspect(targets=...) takes them"
        rarest = min(self.classes, key=lambda label: self.classes[label])  # pyright: ignore[reportOptionalSubscript]
        few, median, most = self.classes[rarest], _median(self.classes), max(self.classes.values())
        if len(self.classes) == 1:
            return f"one, {rarest}, with {most:,} samples: there is nothing to tell apart"
        said = f"{len(self.classes):,}, of {few:,} ({rarest}) to {most:,} samples, the median one of {median:,g}"
        if not self.tailed:
            return f"{said}; no long tail" + (", once repeats are left out" if most > TAIL * median else "")
        if self.goal is None:
            return f"{said}: a long tail. Where rare classes count as much as others, say so: goal balanced"
        return f"{said}: a long tail" + ("" if self.goal == "balanced" else ", which the goal as-trained keeps")

    def _repeats_in_words(self) -> str:
        if self.repeats is None:
            return self.hidden
        return (
            f"{self.repeats:,} of {self.size:,} samples repeat another one of their class" if self.repeats else "none"
        )

    def _conflicts_in_words(self) -> str:
        if self.repeats is None:
            return "not looked at: see exact repeats"
        if not self.classes:
            return "not looked at: no labels are known"
        if not self.conflicts:
            return "none"
        named = ", ".join(map(str, self.conflicts[:5])) + (", ..." if len(self.conflicts) > 5 else "")
        return f"{len(self.conflicts):,} samples are stored like one with another label: indices {named}"

    def _wrong_in_words(self) -> str:
        if self.guarded is None:
            return "not looked at: that takes a training, by --check-labels, or guard= the report of a LabelGuard"
        if self.wrong_labels is None:
            return "the label guard could not tell: it had too few samples, classes or epochs"
        said = f"about {self.wrong_labels:.0%} look wrong"
        if self.guarded or self.wrong_labels < LabelGuard.least_wrong:
            return said
        return (
            f"{said}, after too little training to believe it: {LabelGuard.least_visits:,} samples must be seen first"
        )

    def _sides_in_words(self) -> str:
        lost = f"; unreadable: {', '.join(map(str, self.unreadable))}" if self.unreadable else ""
        if not self.sides:
            return f"no images of shape (C, H, W) in the samples that were read{lost}"
        pictures = [f"{height} x {width}" for height, width in self.sides]
        said = ", ".join(pictures[:4]) + (", ..." if len(pictures) > 4 else "")
        small = min(map(min, self.sides)) < LEAST_SIDE
        return f"{said} pixels" + (f": below {LEAST_SIDE}, smaller ones hardly save time" if small else "") + lost

    def _bound_in_words(self) -> str:
        if self.full is None:
            return (
                "not looked at: that takes trying the model, by --seconds, or inspect(estimate=leantrain.estimate(...))"
            )
        share = getattr(self.full, self.full.bound) / self.full.seconds
        said = f"{self.full.bound}, {share:.0%} of full training's time"
        return f"{said}: only loading less or faster helps" if self.full.bound == "loading" else said

    def __str__(self) -> str:
        """80 columns wide."""
        facts = [_lines(name, text) for name, text in self.facts().items()]
        advice = [_lines(one.method, f"{one.why} ({one.evidence})") for one in self.advice()]
        return "\n".join([f"{self.size:,} samples", *facts, "", "expected to pay", *advice])


def inspect(
    loader: DataLoader[Any],
    *,
    targets: Any = None,
    goal: Goal | None = None,
    guard: Mapping[str, float] | None = None,
    estimate: Estimate | None = None,
) -> Inspection:
    """Look at a data set, and say which method is expected to pay on it.

    What is stored is compared, and a few samples are read; nothing is trained. What only a training tells is given.
    Nothing of the caller's changes, as for ``leantrain.estimate``.

    Args:
        loader: the training DataLoader, as for ``wrap``.
        targets, goal: as for ``wrap``.
        guard: what a ``LabelGuard`` said after a training with it, ``selector.report()``.
        estimate: of ``leantrain.estimate`` for that loader, for what binds the step.

    Raises:
        TypeError, ValueError: what ``wrap`` would refuse; a ``guard`` that is no such report.
    """
    dataloader.check_loader(loader)
    if guard is not None and "label_guard_acts" not in guard:
        raise ValueError(f"guard={guard!r} is no report of a LabelGuard: train with one, and give selector.report().")
    full = Full()
    wrap(loader, full, targets=targets, goal=goal)
    run = full.run
    pool = torch.arange(run.size)[run.where]
    repeats, conflicts, once, hidden = _repeats(run, pool)
    sides, unreadable = _sides(loader, pool)
    return Inspection(
        size=run.count,
        goal=goal,
        classes=_counted(run, pool),
        once=_counted(run, once),
        repeats=repeats,
        conflicts=conflicts,
        hidden=hidden,
        sides=sides,
        unreadable=unreadable,
        guarded=None if guard is None else bool(guard["label_guard_acts"]),
        wrong_labels=None if guard is None else guard.get("wrong_labels_found"),
        full=None if estimate is None else estimate.forecasts[0],
    )


def _repeats(run: Run, pool: Tensor) -> tuple[int | None, tuple[int, ...], Tensor, str]:
    """Repeats and conflicts as ``Distinct`` finds them, which of ``pool`` (M,) it takes, and why it cannot."""
    distinct = Distinct()
    try:
        distinct.setup(run)
    except TypeError as error:  # what is stored does not show
        return None, (), pool, f"not looked at: {error}"
    except ValueError as error:  # all samples are the same one
        return None, (), pool, str(error)
    return int(distinct.report()["repeats_left_out"]), distinct.conflicts, distinct.plan(0, pool).indices, ""


def _counted(run: Run, samples: Tensor) -> dict[int, int] | None:
    """How many of ``samples`` are of each class."""
    if run.targets is None:
        return None
    labels, counts = run.targets[samples].unique(return_counts=True)
    return {label: count for label, count in zip(labels.tolist(), counts.tolist(), strict=True) if label >= 0}


def _median(classes: dict[int, int]) -> float:
    return typical(torch.tensor(list(classes.values())))


def _sides(loader: DataLoader[Any], pool: Tensor) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Sides of the images in a few samples, spread over ``pool`` (M,), as they come in a batch; those unreadable."""
    sides: set[tuple[int, int]] = set()
    unreadable = []
    for row in pool[torch.linspace(0, len(pool) - 1, READ).round().long().unique()].tolist():
        # One at a time: images of several sizes need not fit into a batch.
        one = copy_with(loader, dataset=Subset(loader.dataset, [row]), batch_size=1, num_workers=0, pin_memory=False,
                        generator=torch.Generator())  # fmt: skip
        try:
            with unmoved_randomness():
                sides |= {side for batch in one for side in nested_batch.sides(batch)}
        except Exception:
            unreadable.append(row)
    return tuple(sorted(sides)), tuple(unreadable)


def _lines(name: str, text: str) -> str:
    indent = f"  {name:20s}"
    return textwrap.fill(text, 80, initial_indent=indent, subsequent_indent=" " * 22, break_on_hyphens=False)
