"""The one interface behind every method: a selector answers two questions.

1. ``plan(epoch, pool)``: which samples does this epoch use, and with what weight?
2. ``select(batch)``: which samples of this batch get a backward pass?

The defaults use everything with weight 1, so a method overrides the one that its paper is about. Selectors compose:
in ``left | right`` the left gives the pool and the right chooses within it.

N = size of the data set, M = samples of an epoch's plan, B = samples of an original batch.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from leantrain.core.inputs import Input, Sized
from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.rng import generator
from leantrain.utils import validation
from leantrain.utils.memory import Part, check_fits, rows


class Selector:
    """Base of all methods. On its own it selects everything.

    A method is a dataclass of its settings, checked by their types and in ``__post_init__``; what it learns during a
    run lives in attributes made by ``setup``; those that ``learnt`` names are saved.

    ``needs`` names what the user must tell: ``"loss"`` (``Loader.reduce``), ``"score"`` (a scoring function,
    ``wrap(score=...)``), ``"correct"``, ``"confidence"`` and ``"logits"`` (``reduce(..., logits=, targets=)``),
    ``"epochs"``, ``"targets"`` and ``"goal"`` (``wrap(epochs=, targets=, goal=)``). Who needs ``"logits"`` observes.

    Attributes:
        inputs: those of the settings that are facts of the samples; a trainer makes them.
        learnt: names, without their underscore, of the attributes that ``state_dict`` saves.
        presets: settings by name, for example those that the paper printed; see ``preset``.
        refill: whether kept samples wait in the open batch until it is full. False: what is kept of a batch is trained
            on at once, as a smaller batch.
        scale_factor: below 1, images are resized by it for the scoring pass.
        scoring_batches: how many original batches are joined into one for ``select``.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    inputs: ClassVar[Mapping[str, Input]] = {}
    learnt: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {}
    refill: bool = True
    scale_factor: float = 1.0
    scoring_batches: int = 1
    run: Run

    def __post_init__(self) -> None:
        validation.check_fields(self)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The method with its settings called ``name``, and ``changes`` on top: ``Adonis.preset("paper", sigma=2)``."""
        validation.one_of(f"preset of {cls.__name__}", name, cls.presets)
        return cls(**(cls.presets[name] | changes))

    def setup(self, run: Run) -> None:
        """Called once by ``wrap``. Overrides call it first and check here what only the run can tell.

        Raises:
            ValueError: the run lacks epochs or targets that are needed; what ``memory`` names is more than there is.
        """
        self.run, who = run, type(self).__name__
        if "epochs" in self.needs:
            run.need_epochs(who)
        if "targets" in self.needs:
            run.need_targets(who)
        if "goal" in self.needs:
            run.need_goal(who)
        check_fits(self.memory(run))

    def memory(self, run: Run) -> list[Part]:
        """The large things that the method will come to hold in ``run``: inputs that say how wide they will be."""
        sources = [(name, source) for name in self.inputs if isinstance(source := getattr(self, name), Sized)]
        return [
            rows(f"{name} for {type(self).__name__}", source.samples or run.size, source.classes + source.width)
            for name, source in sources
            if source.width
        ]

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

    def observe(
        self, epoch: int, indices: Tensor, losses: Tensor, logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Told of what ``reduce`` was given, if ``"logits"`` is in ``needs``: of a step of epoch ``epoch``.

        Args:
            indices: (B,) int64.
            losses: (B,) with gradient, on the user's device.
            logits: (B, C) class scores there, with gradient.
            targets: (B,) class labels there.

        Returns:
            The (B,) losses to train on, where ``losses`` are finite finite too, and (B,) what is to be known of each
            sample, in ``run.ledger.fact_sum`` and ``fact_count`` from the epoch's end on; NaN says nothing. What the
            ledger and other methods know as the loss stays the user's.
        """
        return losses, torch.full_like(losses, torch.nan)

    def end_epoch(self, epoch: int) -> None:
        """Called once epoch ``epoch`` is over: its last step is done, its ``refresh`` samples are scored."""

    def settings(self) -> dict[str, Any]:
        """The settings by name, as given, without the inputs; for reports."""
        names = [field.name for field in fields(self)] if is_dataclass(self) else []
        return {name: getattr(self, name) for name in names if name not in self.inputs}

    def report(self) -> dict[str, float]:
        """Counts of remarkable events, by name; for reports."""
        return {}

    def notes(self) -> list[str]:
        """What it found in the data, and why it acts on that or does not: a sentence each, for people."""
        return []

    def distances(self) -> Tensor | None:
        """(N,) float32, how far each sample lies from the prototype or centroid that it is ranked by; for reports.

        None where the method ranks by nothing of the kind, or has not done so yet.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What was learnt so far: tensors and plain values."""
        return {name: getattr(self, f"_{name}") for name in self.learnt}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        for name in self.learnt:
            setattr(self, f"_{name}", state[name])

    def __or__(self, other: "Selector") -> "Chain":
        if not isinstance(other, Selector):
            return NotImplemented
        return Chain(self, other)


def name_of(selector: Selector) -> str:
    """What names a selector and those that it is made of: ``"IDS | Adonis"``, ``"ClassFloor(SB)"``."""
    parts = [name_of(part) for part in selector.parts.values()] if isinstance(selector, Composite) else []
    if isinstance(selector, Chain):
        return " | ".join(parts)
    return type(selector).__name__ + (f"({', '.join(parts)})" if parts else "")


class Composite(Selector):
    """A selector made of others, the selectors among its attributes: each judges what those before it kept.

    A subclass has them before it calls ``_compose``, and says how their plans become one.
    """

    @property
    def parts(self) -> dict[str, Selector]:
        """The selectors that it is made of, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Selector)}

    def _compose(self) -> None:
        parts = self.parts.values()
        if len(observers := [name_of(part) for part in parts if "logits" in part.needs]) > 1:
            raise ValueError(f"{' and '.join(observers)} both change the losses of a step. Take one of them.")
        self.needs = frozenset().union(*(part.needs for part in parts))  # pyright: ignore[reportAttributeAccessIssue]
        self.refill = all(part.refill for part in parts)
        self.scale_factor = min(part.scale_factor for part in parts)
        self.scoring_batches = max(part.scoring_batches for part in parts)

    def setup(self, run: Run) -> None:
        self.run = run
        check_fits(self.memory(run))  # of all parts together; what else each needs it says itself
        for part in self.parts.values():
            part.setup(run)

    def memory(self, run: Run) -> list[Part]:
        return [held for part in self.parts.values() for held in part.memory(run)]

    def loss_age(self, epoch: int) -> int | None:
        ages = [age for part in self.parts.values() if (age := part.loss_age(epoch)) is not None]
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

    def observe(
        self, epoch: int, indices: Tensor, losses: Tensor, logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        observer = next(part for part in self.parts.values() if "logits" in part.needs)
        return observer.observe(epoch, indices, losses, logits, targets)

    def end_epoch(self, epoch: int) -> None:
        for part in self.parts.values():
            part.end_epoch(epoch)

    def _online(self, epoch: int) -> list[Selector]:
        return [part for part in self.parts.values() if part.loss_age(epoch) is not None]

    def settings(self) -> dict[str, Any]:
        return {type(part).__name__: part.settings() for part in self.parts.values()}

    def report(self) -> dict[str, float]:
        return {name: count for part in self.parts.values() for name, count in part.report().items()}

    def notes(self) -> list[str]:
        return [note for part in self.parts.values() for note in part.notes()]

    def distances(self) -> Tensor | None:
        return next((found for part in self.parts.values() if (found := part.distances()) is not None), None)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


class Chain(Composite):
    """``left | right``: the left's plan is the right's pool, the left's kept samples are the right's batch."""

    def __init__(self, left: Selector, right: Selector) -> None:
        self.left, self.right = left, right
        self._compose()

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        outer = self.left.plan(epoch, pool)
        inner = self.right.plan(epoch, outer.indices)
        if outer.view and inner.view:
            raise ValueError(f"{name_of(self)}: two of them change the size of the inputs. Leave one out.")
        if outer.repeats and inner.batch_sizes is None:  # then the order holds, and the right's may be the data set's
            order = torch.randperm(len(inner.indices), generator=generator(self.run.seed, epoch, "chain"))
            weights = None if inner.weights is None else inner.weights[order]
            inner = replace(inner, indices=inner.indices[order], weights=weights)
        weights = inner.weights
        if outer.weights is not None:
            weights = torch.ones(self.run.size, dtype=torch.float32).index_copy_(
                0, outer.indices, outer.weights.float()
            )[inner.indices]
            weights = weights if inner.weights is None else weights * inner.weights
        refresh = [part for part in (outer.refresh, inner.refresh) if part is not None]
        return Plan(
            inner.indices,
            weights,
            inner.batch_sizes,  # the left's batches are broken up: the right chose within them
            outer.lr_factor * inner.lr_factor,
            torch.cat(refresh) if refresh else None,
            outer.view or inner.view,
        )


def all_parts(selector: Selector) -> list[Selector]:
    """The selector and all that it is made of, and these of."""
    inner = selector.parts.values() if isinstance(selector, Composite) else ()
    return [selector, *(part for one in inner for part in all_parts(one))]
