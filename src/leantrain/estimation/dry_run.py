"""A training without its model: the real loader and the real selector, on losses that a rehearsal left behind.

N = size of the data set, n = samples simulated, B = samples of a batch.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from leantrain.core.inputs import Input, Sized
from leantrain.core.run import Goal
from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.embed.features import Features
from leantrain.embed.gradients import Gradients
from leantrain.estimation.rehearsal import Costs, Rehearsal, pick
from leantrain.loader.loader import Loader
from leantrain.loader.wrap import wrap
from leantrain.replay.record_replay import Record, Replay
from leantrain.rng import generator
from leantrain.scoring.scorer import Scores

WIDTH = 64  # features of a made-up embedding whose real one does not say how wide it is
IMAGE = 224  # side of the image that stands for a batch whose view is asked for
LEAST = 64  # batches that are simulated at least: a selection of a few per cent must fill one


@dataclass(frozen=True)
class Epoch:
    """One epoch: samples, and seconds of planning and deciding and of passes aside.

    ``work``: of training, in samples of full size; None for ``trained``.
    """

    trained: float
    scored: float
    loaded: float
    decide: float
    aside: float
    work: float | None = None


@dataclass(frozen=True)
class DryRun:
    """A training's counts.

    Args:
        epochs: one entry each.
        before: seconds of pre-processing.
        exact: whether no loss had a say and nothing was scaled.
    """

    epochs: list[Epoch]
    before: float
    exact: bool


class _Places(Subset[Any]):
    """Some samples of a data set, of which none is loaded: each gives its place among them."""

    def __getitem__(self, index: Any) -> Any:
        return index

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return indices


COUNTED = ("trained", "work", "scored", "loaded", "plan_seconds", "select_seconds")


def _counts(stats: Stats) -> dict[str, float]:
    return {name: getattr(stats, name) for name in COUNTED}


@dataclass
class Priced:
    """Stands for a callable that makes features, gradients, scores or losses, which an estimate never calls.

    Args:
        width, classes, samples: as for ``Sized``.
        price: seconds a sample of the pass, where it is not a forward pass of the model that is trained.
        epochs: of trainings that go before the pass, besides those that the method asks for itself.
    """

    width: int = 0
    classes: int = 0
    samples: int = 0
    price: float | None = None
    epochs: float = 0.0

    def __call__(self, *given: Any) -> Any:
        raise RuntimeError("This stands for a pass over the data in an estimate, and makes nothing.")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where methods are tried: the facts of the training that is forecast.

    Args:
        size: N.
        batch_size, drop_last: of the DataLoader.
        epochs: length of the training.
        targets: (N,) class labels, or None.
        seed: of the selection.
        rehearsal: of which the losses are.
        costs: of which those of passes aside follow.
        most: batches that a run may take; n follows.
        goal: as for ``wrap``.
        dataset: of which the samples are, for what methods learn of it without loading any.
    """

    size: int
    batch_size: int
    drop_last: bool
    epochs: float
    targets: Tensor | None
    seed: int
    rehearsal: Rehearsal
    costs: Costs
    most: int
    goal: Goal | None = None
    dataset: Any = None

    @property
    def simulated(self) -> int:
        """n."""
        batches = max(LEAST, int(self.most / self.epochs))
        return min(self.size, batches * self.batch_size)

    def run(self, selector: Selector) -> DryRun:
        """The counts of a training with ``selector``, which stays as it is."""
        taken, scale, aside = self._taken(), self.size / self.simulated, defaultdict[str, float](float)
        facts: dict[str, Scores] = {}
        samples: Any = range(self.size) if self.dataset is None else self.dataset
        plain = DataLoader(
            _Places(samples, taken.tolist()),
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            shuffle=True,
            generator=torch.Generator().manual_seed(self.seed),
        )
        labels = None if self.targets is None else self.targets[taken]
        loader = wrap(
            plain,
            self._stand_in(selector, taken, aside),
            score=lambda batch: pick(facts["now"], batch),
            epochs=self.epochs,
            targets=labels,
            seed=self.seed,
            goal=self.goal,
        )

        def next_epoch() -> None:
            facts["now"] = self.rehearsal.at(loader.epoch, self.epochs, self.simulated, self.seed)

        loader.at_epoch_start(next_epoch)
        epochs = [self._epoch(loader, facts, labels, scale, aside) for _ in range(math.ceil(self.epochs))]
        judged = loader.selector.needs & {"loss", "score", "correct", "confidence"}
        return DryRun(epochs, aside["before"], exact=scale == 1 and not judged)

    def _epoch(
        self, loader: Loader, facts: dict[str, Scores], labels: Tensor | None, scale: float, aside: dict[str, float]
    ) -> Epoch:
        stats, before, within = loader.stats, _counts(loader.stats), aside["within"]
        image = torch.zeros(1, 1, IMAGE, IMAGE)
        for batch in loader:
            now = facts["now"]
            logits, targets = None, None
            if "logits" in loader.selector.needs:
                assert labels is not None  # who needs logits needs class labels
                targets = labels[batch]
                logits = _class_scores(now.losses[batch], targets)
            elif loader.selector.needs & {"correct", "confidence"}:
                logits, targets = _logits(now, batch)
            loader.view(image)
            loader.reduce(now.losses[batch], logits, targets)
            _ = loader.lr_factor  # no optimizer is there to follow it
        spent = {name: scale * (value - before[name]) for name, value in _counts(stats).items()}
        return Epoch(
            trained=spent["trained"],
            scored=spent["scored"],
            loaded=spent["loaded"],
            decide=spent["plan_seconds"] + spent["select_seconds"],
            aside=aside["within"] - within,
            work=spent["work"],
        )

    def _taken(self) -> Tensor:
        """(n,) indices of the samples that are simulated."""
        if self.simulated == self.size:
            return torch.arange(self.size)
        drawn = torch.randperm(self.size, generator=generator(self.seed, 0, "estimate, which samples"))
        return drawn[: self.simulated].sort().values

    def _stand_in(self, selector: Selector, taken: Tensor, aside: dict[str, float]) -> Selector:
        """A copy that leaves ``selector`` alone; what would run a model is made up instead, and its time noted."""
        if isinstance(selector, Record | Replay):
            raise ValueError(
                f"{type(selector).__name__} reads or writes a folder, and an estimate leaves files alone. Estimate the "
                "selector that is recorded."
            )
        twin = copy.copy(selector)
        for name, value in vars(selector).items():
            if isinstance(value, Selector):
                setattr(twin, name, self._stand_in(value, taken, aside))
            elif (wanted := selector.inputs.get(name)) and value is not None:
                given = self._made_up(name, wanted, value, aside) if callable(value) else _rows(value, taken, self.size)
                setattr(twin, name, given)
            elif isinstance(value, Tensor) and value.ndim:  # a setting, such as groups
                setattr(twin, name, _rows(value, taken, self.size))
        return twin

    def _made_up(self, name: str, wanted: Input, source: Callable[..., Any], aside: dict[str, float]) -> Sized[Any]:
        """A callable that makes nonsense of the right shape and notes what sense would have cost."""
        sizes = (source.width, source.classes, source.samples) if isinstance(source, Sized) else ()
        priced = source if isinstance(source, Priced) else Priced(*sizes)
        once = self.costs.read_and(self.costs.score) if priced.price is None else priced.price
        rows, real = (priced.samples,) * 2 if wanted.other and priced.samples else (self.simulated, self.size)

        def make(epochs: float = 0.0) -> Any:
            seconds = once + (epochs + priced.epochs) * self.costs.read_and(self.costs.step)
            aside["within" if wanted.kind == "gradients" else "before"] += real * seconds
            return self._nonsense(name, wanted.kind, rows, priced)

        return Sized(make, priced.width, priced.classes, rows)

    def _nonsense(self, name: str, kind: str, rows: int, priced: Priced) -> Any:
        rng, width = generator(self.seed, 0, f"estimate {name}"), priced.width or WIDTH
        if kind == "features":
            return torch.randn(rows, width, generator=rng, dtype=torch.float32)
        if kind != "gradients":
            return torch.rand(rows, generator=rng, dtype=torch.float32)
        classes = priced.classes or (2 if self.targets is None else int(self.targets.max()) + 1)
        delta = torch.randn(rows, classes, generator=rng, dtype=torch.float32).softmax(dim=1)
        delta[torch.arange(rows), torch.arange(rows) % classes] -= 1
        return Gradients(delta, torch.randn(rows, width, generator=rng, dtype=torch.float32))


def _rows(value: Any, taken: Tensor, size: int) -> Any:
    """Those of a given tensor that belong to the simulated samples; of no data set in particular."""
    if isinstance(value, Gradients):
        pick = taken if len(value.delta) == size else slice(None)
        return replace(value, delta=value.delta[pick], features=value.features[pick], fingerprint="")
    value = value.values if isinstance(value, Features) else value
    if isinstance(value, int):  # a fact of all samples
        return value
    return value[taken] if len(value) == size and len(taken) < size else value


def _logits(now: Scores, batch: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Class scores (B, C) and labels (B,) that are judged as right or wrong, and as sure, as ``now`` says."""
    if now.correct is None or now.confidence is None:
        return None, None
    right, sure = now.correct[batch], now.confidence[batch].clamp(1e-6, 1 - 1e-6)
    classes = 2 + int((1 / sure.min()).ceil())  # with so many, the surest one can be as unsure as that
    scores = ((1 - sure) / (classes - 1)).log().unsqueeze(1).repeat(1, classes)
    scores[:, 0] = sure.log()
    return scores, (~right).long()


def _class_scores(losses: Tensor, labels: Tensor) -> Tensor:
    """Class scores (B, C) of which ``losses`` (B,) are the cross-entropies with ``labels`` (B,), others all alike."""
    classes = max(2, int(labels.max()) + 1)
    right = (-losses).clamp(max=-1e-6).unsqueeze(1)
    scores = (-right.expm1() / (classes - 1)).log().repeat(1, classes)
    return scores.scatter(1, labels.clamp(min=0).unsqueeze(1), right)
