"""What a training will cost: the counts of a dry run times the costs of a sample. All times in seconds."""

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
            "(last column) and is what a method has to beat. `leantrain compare` measures whether it does."
        )
        return said

    def __str__(self) -> str:
        rows = [HEADINGS, *map(cells, self.forecasts)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([*lines, *self.sentences()])


HEADINGS = (
    "method", "trained", "scored", "loaded", "epoch", "training", "before", "boost", "with it", "bound", "same time"
)  # fmt: skip


def cells(row: Forecast) -> tuple[str, ...]:
    """A forecast as text, under ``HEADINGS``."""
    about = "" if row.exact else "~"
    return (
        row.method,
        *(f"{about}{100 * share:.1f} %" for share in (row.trained, row.scored, row.loaded)),
        *map(duration, (row.seconds_of_an_epoch, row.seconds, row.preprocessing)),
        f"{about}{row.boost:.2f}×",
        f"{about}{row.boost_with_preprocessing:.2f}×",
        row.bound,
        f"{row.control_epochs:.1f} ep.",
    )


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
    seconds: dict[Bound, float] = {
        "loading": epoch.loaded * costs.fetch,
        "forward": epoch.trained * costs.forward,
        "backward": epoch.trained * (costs.backward + costs.optimizer),
        "selection": epoch.scored * costs.score + epoch.decide + epoch.aside,
    }
    if costs.overlap:
        seconds["loading"] = max(0.0, 2 * seconds["loading"] - sum(seconds.values()))
    return seconds
