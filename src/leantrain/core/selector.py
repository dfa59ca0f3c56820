"""The one interface behind every method: a selector answers two questions.

1. ``plan(epoch, pool)``: which samples does this epoch use, and with what weight?
2. ``select(batch)``: which samples of this batch get a backward pass?

The defaults use everything with weight 1, so a method overrides the one that its paper is about. Selectors compose:
in ``left | right`` the left gives the pool and the right chooses within it.

N = size of the data set, M = samples of an epoch's plan, B = samples of an original batch.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from leantrain.core.ledger import Ledger
from leantrain.utils import validation
from leantrain.utils.memory import Part, check_fits


@dataclass(frozen=True, slots=True)
class Plan:
    """The samples of one epoch.

    Args:
        indices: (M,) int64 indices into the data set. The user's own sampler decides their order. Where an index
            stands more than once, the sample is used as often and the plan's order holds.
        weights: (M,) float32 factors of the samples' losses, or None for 1. An index that stands more than once has
            the same weight each time.
        batch_sizes: where given, the plan's order holds and is cut into exactly these training batches.
        lr_factor: of the epoch's learning rate. ``ProgressLR`` follows it; other schedules read ``loader.lr_factor``.
        refresh: (H,) int64 indices that are scored, without training on them, once the epoch's last step is done.
    """

    indices: Tensor
    weights: Tensor | None = None
    batch_sizes: tuple[int, ...] | None = None
    lr_factor: float = 1.0
    refresh: Tensor | None = None

    def check(self, who: str, run: "Run", epoch: int) -> None:
        """ValueError when the plan of ``who`` does not fit the run; a warning when it is too small for a batch."""
        if self.batch_sizes is not None:
            sizes = self.batch_sizes
            if sum(sizes) != len(self.indices) or min(sizes, default=1) < 1:
                raise ValueError(f"{who} plans {len(self.indices)} samples in batches of {sizes}: each must hold some.")
        if self.weights is not None and self.weights.shape != self.indices.shape:
            raise ValueError(f"{who} plans {len(self.indices)} samples but {tuple(self.weights.shape)} weights.")
        if len(self.indices) == 0:
            raise ValueError(f"{who} selects no sample for epoch {epoch}.")
        low, high = int(self.indices.min()), int(self.indices.max())
        if low < 0 or high >= run.size:
            raise ValueError(f"{who} plans indices {low} to {high}; the data set has 0 to {run.size - 1}.")
        if len(self.indices) < run.batch_size <= run.size:
            message = (
                f"{who} selects {len(self.indices)} samples, fewer than one batch of {run.batch_size}. Select more, or "
                "use a smaller batch."
            )
            if epoch == 0:
                raise ValueError(message)
            warnings.warn(message, stacklevel=3)  # the training is under way: go on with a short batch


@dataclass(frozen=True, slots=True)
class Batch:
    """What an online method judges: an original batch, or several joined (``Selector.scoring_batches``).

    Args:
        epoch: the running epoch, from 0.
        number: the batch's number within the epoch, from 0; with ``epoch`` it names a private random stream.
        indices: (B,) int64 indices into the data set.
        losses: (B,) float32, one loss a sample, finite.
    """

    epoch: int
    number: int
    indices: Tensor
    losses: Tensor

    def take(self, positions: Tensor) -> "Batch":
        """The batch made of ``positions`` only."""
        return Batch(self.epoch, self.number, self.indices[positions], self.losses[positions])


@dataclass(frozen=True, slots=True)
class Run:
    """What a selector is told of the run it serves.

    Args:
        size: N, the number of samples.
        batch_size: samples in a training batch (rho), over all ranks.
        epochs: length of the training, or None when ``wrap`` was not told.
        seed: seed of every private random stream.
        ledger: the per-sample facts, shared by all selectors of the run.
        targets: (N,) int64 class labels, or None when unknown.
        fingerprint: names the data set, so that a ranking made for another one is refused.
        writes: whether this process is the one of several ranks that writes files.
        drop_last: whether the DataLoader leaves out a last batch that is short.
    """

    size: int
    batch_size: int
    epochs: float | None
    seed: int
    ledger: Ledger
    targets: Tensor | None = None
    fingerprint: str = ""
    writes: bool = True
    drop_last: bool = False

    def need_epochs(self, who: str) -> float:
        """The length of the training; a ValueError that says how to give it when unknown."""
        if self.epochs is None:
            raise ValueError(f"{who} depends on the length of the training. Pass it: wrap(loader, ..., epochs=90).")
        return self.epochs

    def batches(self, samples: Tensor) -> tuple[Tensor, ...]:
        """``samples`` (M,) cut into batches; with ``drop_last`` without a short last one, unless it is the only one."""
        cut = samples.split(self.batch_size)
        return cut[:-1] if self.drop_last and len(cut) > 1 and len(cut[-1]) < self.batch_size else cut

    def need_targets(self, who: str) -> Tensor:
        """(N,) class labels; a ValueError that says how to give them when unknown."""
        if self.targets is None:
            raise ValueError(
                f"{who} works class by class, and no labels were found: the data set has no `targets` or `labels`. "
                "Pass one label a sample: wrap(loader, ..., targets=labels)."
            )
        return self.targets


class Selector:
    """Base of all methods. On its own it selects everything.

    A method is a dataclass of its settings, checked in ``__post_init__``; what it learns during a run lives in
    attributes made by ``setup`` and saved by ``state_dict``.

    ``needs`` names what the user's loop must tell: ``"loss"`` (``Loader.reduce``), ``"score"`` (a scoring function,
    ``wrap(score=...)``), ``"correct"`` and ``"confidence"`` (``reduce(..., logits=, targets=)``).

    Attributes:
        presets: settings by name, for example those that the paper printed; see ``preset``.
        refill: whether kept samples wait in the open batch until it is full. False: what is kept of a batch is trained
            on at once, as a smaller batch.
        scale_factor: below 1, images are resized by it for the scoring pass.
        scoring_batches: how many original batches are joined into one for ``select``.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {}
    refill: bool = True
    scale_factor: float = 1.0
    scoring_batches: int = 1
    run: Run

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The method with its settings called ``name``, and ``changes`` on top: ``Adonis.preset("paper", sigma=2)``."""
        validation.one_of(f"preset of {cls.__name__}", name, cls.presets)
        return cls(**(cls.presets[name] | changes))

    def setup(self, run: Run) -> None:
        """Called once by ``wrap``. Overrides call it first and check here what only the run can tell.

        Raises:
            ValueError: what ``memory`` names is more than there is.
        """
        self.run = run
        check_fits(self.memory(run))

    def memory(self, run: Run) -> list[Part]:
        """The large things that the method will come to hold at once in ``run``, as far as known beforehand."""
        return []

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        """Which samples of ``pool`` ((M,) int64) epoch ``epoch`` uses. Asked once an epoch, before it starts."""
        return Plan(pool)

    def loss_age(self, epoch: int) -> int | None:
        """None when ``select`` has no say in this epoch; otherwise for how many epochs a loss counts as current.

        1 asks for fresh losses in every epoch. With 3, an epoch whose samples were all scored in this epoch or the
        two before is decided from stored losses, before anything is loaded.
        """
        return None

    def judges(self, epoch: int, number: int) -> bool:
        """Whether ``select`` is asked about batch ``number`` of an epoch with a ``loss_age``; False uses it whole."""
        return True

    def pass_over(self, epoch: int, number: int, indices: Tensor) -> None:
        """Told of a batch that ``judges`` had used whole: its ``indices`` (B,), without scores."""

    def select(self, batch: Batch) -> Tensor:
        """Positions (K,) int64 within ``batch`` that get a backward pass. Asked in epochs with a ``loss_age``."""
        return torch.arange(len(batch.indices))

    def end_epoch(self, epoch: int) -> None:
        """Called once epoch ``epoch`` is over: its last step is done, its ``refresh`` samples are scored."""

    def settings(self) -> dict[str, Any]:
        """The settings by name, as given; for reports."""
        return {field.name: getattr(self, field.name) for field in fields(self)} if is_dataclass(self) else {}

    def report(self) -> dict[str, float]:
        """Counts of remarkable events, by name; for reports."""
        return {}

    def distances(self) -> Tensor | None:
        """(N,) float32, how far each sample lies from the prototype or centroid that it is ranked by; for reports.

        None where the method ranks by nothing of the kind, or has not done so yet.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What was learnt so far: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""

    def __or__(self, other: "Selector") -> "Chain":
        if not isinstance(other, Selector):
            return NotImplemented
        return Chain(self, other)


class Chain(Selector):
    """``left | right``: the left's plan is the right's pool, the left's kept samples are the right's batch."""

    def __init__(self, left: Selector, right: Selector) -> None:
        self.left, self.right = left, right
        self.needs = left.needs | right.needs  # pyright: ignore[reportAttributeAccessIssue]
        self.refill = left.refill and right.refill
        self.scale_factor = min(left.scale_factor, right.scale_factor)
        self.scoring_batches = max(left.scoring_batches, right.scoring_batches)

    def setup(self, run: Run) -> None:
        super().setup(run)
        self.left.setup(run)
        self.right.setup(run)

    def memory(self, run: Run) -> list[Part]:
        return self.left.memory(run) + self.right.memory(run)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        outer = self.left.plan(epoch, pool)
        inner = self.right.plan(epoch, outer.indices)
        weights = inner.weights
        if outer.weights is not None:
            weights = torch.ones(self.run.size).index_copy_(0, outer.indices, outer.weights.float())[inner.indices]
            weights = weights if inner.weights is None else weights * inner.weights
        refresh = [part for part in (outer.refresh, inner.refresh) if part is not None]
        return Plan(
            inner.indices,
            weights,
            inner.batch_sizes,  # the left's batches are broken up: the right chose within them
            outer.lr_factor * inner.lr_factor,
            torch.cat(refresh) if refresh else None,
        )

    def loss_age(self, epoch: int) -> int | None:
        ages = [age for part in (self.left, self.right) if (age := part.loss_age(epoch)) is not None]
        return min(ages, default=None)

    def judges(self, epoch: int, number: int) -> bool:
        return any(part.judges(epoch, number) for part in self._online(epoch))

    def pass_over(self, epoch: int, number: int, indices: Tensor) -> None:
        for part in self._online(epoch):
            part.pass_over(epoch, number, indices)

    def select(self, batch: Batch) -> Tensor:
        kept = torch.arange(len(batch.indices))
        for part in self._online(batch.epoch):
            if part.judges(batch.epoch, batch.number):
                kept = kept[part.select(batch.take(kept))]
            else:
                part.pass_over(batch.epoch, batch.number, batch.indices[kept])
        return kept

    def end_epoch(self, epoch: int) -> None:
        self.left.end_epoch(epoch)
        self.right.end_epoch(epoch)

    def _online(self, epoch: int) -> list[Selector]:
        return [part for part in (self.left, self.right) if part.loss_age(epoch) is not None]

    def settings(self) -> dict[str, Any]:
        return {type(part).__name__: part.settings() for part in (self.left, self.right)}

    def report(self) -> dict[str, float]:
        return self.left.report() | self.right.report()

    def distances(self) -> Tensor | None:
        left = self.left.distances()
        return self.right.distances() if left is None else left

    def state_dict(self) -> dict[str, Any]:
        return {"left": self.left.state_dict(), "right": self.right.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.left.load_state_dict(state["left"])
        self.right.load_state_dict(state["right"])
