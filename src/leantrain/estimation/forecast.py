"""What a training will cost: the counts of a dry run times the costs of a sample. All times in seconds."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from leantrain.estimation.dry_run import DryRun, Epoch
from leantrain.estimation.rehearsal import Costs

Bound = Literal["loading", "forward", "backward", "selection"]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one method will cost.

    Args:
        method: its name.
        trained, scored, loaded: samples, over the size of the data set times the epochs.
        seconds: of the training, without pre-processing: the sum of the four that follow.
        loading: reading samples; with worker processes, what the model has to wait for them.
        forward, backward: of the training steps; the optimizer counts to the latter.
        selection: scoring, planning and deciding, with the gradient passes that some plans need.
        preprocessing: embeddings, probes and holdout models.
        epochs: length of the training.
        boost: time of full training over the method's, pre-processing left out.
        bound: the largest of the four parts; ``"loading"`` also where the model waits for the worker processes.
        exact: whether the counts follow from the settings alone. Otherwise they hang on losses, which are extrapolated
            from a short training, or were counted on fewer samples.
    """

    method: str
    trained: float
    scored: float
    loaded: float
    seconds: float
    loading: float
    forward: float
    backward: float
    selection: float
    preprocessing: float
    epochs: float
    boost: float
    bound: Bound
    exact: bool

    @property
    def boost_with_preprocessing(self) -> float:
        """Time of full training over the method's, pre-processing counted."""
        return self.boost * self.seconds / (self.seconds + self.preprocessing)

    @property
    def control_epochs(self) -> float:
        """Epochs of full training that take as long as the method: its equal-time control, which it has to beat."""
        return self.epochs / self.boost_with_preprocessing

    @property
    def seconds_of_an_epoch(self) -> float:
        """Mean over the training's epochs."""
        return self.seconds / self.epochs


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What ``leantrain.estimate`` found; ``print`` shows it as a table.

    Args:
        forecasts: one a method, full training first.
        costs: as measured on this machine, model and data.
        size, batch_size, epochs: of the training that is forecast.
        rehearsed: samples and epochs of the short training that the losses are from.
        simulated: samples that the selectors chose from; less than ``size`` where that would have taken too long.
    """

    forecasts: tuple[Forecast, ...]
    costs: Costs
    size: int
    batch_size: int
    epochs: float
    rehearsed: tuple[int, int]
    simulated: int

    def sentences(self) -> list[str]:
        """What a reader must know: what binds, what was extrapolated, and what a boost is not."""
        full = self.forecasts[0]
        said = []
        if full.bound == "loading":
            said.append(
                f"Full training is bound by data loading ({full.loading / full.seconds:.0%} of its time): only methods "
                "that load less can help, and faster loading helps more."
            )
        samples, epochs = self.rehearsed
        said.append(
            "Costs are medians of a short training on this machine. Counts marked ~ hang on losses, which are those of "
            f"full training on {samples:,} of {self.size:,} samples for {epochs} of {self.epochs:g} epochs at the same "
            "share of the training: expect more samples to be learnt in the real one."
        )
        if self.simulated < self.size:
            said.append(
                f"The methods chose from {self.simulated:,} samples, and their counts and the time of their plans were "
                "scaled up; a plan whose time grows faster than the data set, Grad-Match's, will take longer."
            )
        said.append(
            "A boost is no gain in accuracy for the time: full training for 1 / boost of the epochs takes as long "
            "(same time) and is what a method has to beat. `leantrain compare` measures whether it does."
        )
        return said

    def __str__(self) -> str:
        """Two tables, what is saved and what was counted, and the sentences; 80 columns wide, but for long names."""
        rows = [_cells(row) for row in self.forecasts]
        saved = _aligned(("method", "boost", "with it", "same time", "training", "before"), rows)
        counted = _aligned(("method", "bound", "epoch", "trained", "scored", "loaded"), rows)
        paragraphs = [_wrapped(text) for text in (SAVED, COUNTED, *self.sentences())]
        return "\n".join([saved, paragraphs[0], "", counted, *paragraphs[1:]])


SAVED = (
    "boost: full training's time over the method's; with it: pre-processing counted, which takes the time before. "
    "same time: epochs of full training that take as long as the method with it."
)
COUNTED = (
    "bound: what takes most of the time. epoch, training: the time of one, and of all. trained, scored, loaded: "
    "shares of the data set times the epochs."
)


def _cells(row: Forecast) -> dict[str, str]:
    """A forecast as text, by heading."""
    about = "" if row.exact else "~"
    shares = {"trained": row.trained, "scored": row.scored, "loaded": row.loaded}
    times = {"epoch": row.seconds_of_an_epoch, "training": row.seconds, "before": row.preprocessing}
    return {
        "method": row.method,
        "boost": f"{about}{row.boost:.2f}×",
        "with it": f"{about}{row.boost_with_preprocessing:.2f}×",
        "same time": f"{row.control_epochs:.1f} ep.",
        "bound": row.bound,
        **{heading: duration(seconds) for heading, seconds in times.items()},
        **{heading: f"{about}{100 * share:.1f} %" for heading, share in shares.items()},
    }


def _aligned(headings: tuple[str, ...], rows: list[dict[str, str]]) -> str:
    """A table: the first column to the left, the others to the right."""
    lines = [headings, *(tuple(row[heading] for heading in headings) for row in rows)]
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False)


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0 s" if seconds < 1e-6 else f"{seconds * 1e6:.3g} µs"


def forecast(runs: Iterable[tuple[str, DryRun]], costs: Costs, size: int, epochs: float) -> tuple[Forecast, ...]:
    """A forecast of each run, by name; the first is full training, which the others are held against."""
    found: list[Forecast] = []
    for name, run in runs:
        priced = [_seconds(epoch, costs) for epoch in run.epochs]
        parts = {part: sum(epoch[part] for epoch in priced) for part in get_args(Bound)}
        total = sum(parts.values())
        waits = sum(epoch["loading"] > 0 for epoch in priced) if costs.overlap else 0
        counts = {what: sum(getattr(epoch, what) for epoch in run.epochs) for what in ("trained", "scored", "loaded")}
        found.append(
            Forecast(
                method=name,
                **{what: count / (size * epochs) for what, count in counts.items()},
                seconds=total,
                **parts,
                preprocessing=run.before,
                epochs=epochs,
                boost=(found[0].seconds if found else total) / total,
                bound="loading" if 2 * waits > len(priced) else max(parts, key=lambda part: parts[part]),
                exact=run.exact,
            )
        )
    return tuple(found)


def _seconds(epoch: Epoch, costs: Costs) -> dict[Bound, float]:
    """Of the parts of an epoch. Of loading, with worker processes, what the model has to wait for them."""
    work = epoch.trained if epoch.work is None else epoch.work
    seconds: dict[Bound, float] = {
        "loading": epoch.loaded * costs.fetch,
        "forward": work * costs.forward,
        "backward": work * (costs.backward + costs.optimizer),
        "selection": epoch.scored * costs.score + epoch.decide + epoch.aside,
    }
    if costs.overlap:
        seconds["loading"] = max(0.0, 2 * seconds["loading"] - sum(seconds.values()))
    return seconds
