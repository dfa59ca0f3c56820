"""Batches that were handed out: each knows whose samples it holds, so that what is told of it reaches those.

B = samples of a batch on this rank, b = samples whose losses are told at once, W = number of ranks.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MOST, LEAST = 1024, 1  # batches kept in mind: of those that wait for their losses, and of those that have them


@dataclass(eq=False, slots=True)
class Presented:
    """A batch as the user's loop got it.

    Args:
        run_through: number of the iterator that gave it.
        epoch: in which it was given.
        parts: (B,) int64 of each rank.
        indices: (B,) int64, this rank's samples.
        weights: (B,) of their losses, None for 1.
    """

    run_through: int
    epoch: int
    parts: list[Tensor]
    indices: Tensor
    weights: Tensor | None
    pixels: float = 1.0  # share of the inputs' pixels that the view left
    graded: bool = False  # whether losses with a gradient came
    told: Tensor = field(init=False)  # (B,) bool, whose losses came
    left: int = field(init=False)  # samples whose losses did not

    def __post_init__(self) -> None:
        self.told = torch.zeros(len(self.indices), dtype=torch.bool)
        self.left = len(self.indices)

    @property
    def of(self) -> int:
        """Samples of all ranks."""
        return sum(map(len, self.parts))

    @property
    def untouched(self) -> bool:
        """Whether nothing was told of it yet."""
        return self.left == len(self.indices)


@dataclass(frozen=True, slots=True)
class Places:
    """Samples of batches that were handed out, whose losses are told now.

    Attributes:
        indices: (b,) int64 into the data set.
        weights: (b,), None for 1.
        first: (b,) bool, whose losses were not told before: a presentation counts once.
        share: factor of this rank's mean, so that the ranks' mean is that over all samples.
        trained: presentations on all ranks that are told for the first time, by the share of their pixels.
        steps: batches of which something is told for the first time.
    """

    parts: Sequence[tuple[Presented, Tensor]]  # batches, and (b,) positions in each
    epoch: int
    indices: Tensor
    weights: Tensor | None
    first: Tensor
    share: float
    trained: dict[float, int]
    steps: int

    def check_gradient(self, graded: bool) -> None:
        """RuntimeError for losses without gradient of batches whose own, with one, were told before."""
        if not graded and not bool(self.first.any()) and all(batch.graded for batch, _ in self.parts):
            raise RuntimeError(
                "reduce(losses) was given losses without gradient for a batch that was trained on already: is it a "
                "validation batch? Average those by losses.mean()."
            )

    def mark(self, graded: bool) -> None:
        """The losses came: what is told of these samples from now on is told again."""
        for batch, positions in self.parts:
            batch.graded = batch.graded or graded
            batch.told[positions] = True
            batch.left = len(batch.told) - int(batch.told.sum())


class Presentations:
    """The batches that were handed out of late.

    Args:
        ranks: W.

    Attributes:
        newest: the batch handed out last; None before the first.
        over: whether the pass that gave it is over.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.newest: Presented | None = None
        self.over = False
        self._pass = 0
        self._batches: deque[Presented] = deque(maxlen=MOST)

    def start(self, run_through: int) -> None:
        """A new pass begins."""
        self._pass = run_through

    def end(self, waits: bool) -> None:
        """The pass is over. Unless it ``waits``, losses that did not come never will; before it, neither."""
        self.over = True
        last = self._pass if waits else self._pass + 1
        kept = [batch for batch in self._batches if not batch.left or batch.run_through >= last]
        self._batches = deque(kept, maxlen=MOST)

    @property
    def untold(self) -> list[Presented]:
        """The batches of the running pass, oldest first, that came after the newest one of which losses were told."""
        found: list[Presented] = []
        for batch in reversed(self._batches):
            if batch.run_through != self._pass or not batch.untouched:
                break
            found.append(batch)
        return found[::-1]

    def add(self, batch: Presented) -> None:
        """``batch`` is handed out now."""
        while len(self._batches) >= LEAST and not self._batches[0].left:
            self._batches.popleft()
        self.newest, self.over = batch, False
        self._batches.append(batch)

    def of_newest(self) -> Places:
        """All of the newest batch. RuntimeError where it need not be the one whose losses are there."""
        if self.newest is None:
            raise RuntimeError("No batch was handed out yet: iterate over the loader first.")
        if self.over:
            raise RuntimeError(
                "reduce(losses) came after the last batch of its epoch: is it a validation batch? Average those "
                "by losses.mean(). A loop that fetches ahead says whose losses they are: reduce(losses, indices=ids), "
                "with ids what loader.indices was when the batch was fetched."
            )
        waiting = sum(batch.untouched and batch.run_through == self.newest.run_through for batch in self._batches)
        if waiting > self.newest.untouched:
            raise RuntimeError(
                f"{waiting - self.newest.untouched} batches before the newest one wait for their losses: the loop "
                "fetches ahead, as prefetchers do and loops that collect the batches of an accumulation, or it left "
                "batches out. Whose losses are these? Keep loader.indices when a batch is fetched, and say it: "
                "loader.reduce(losses, indices=ids)."
            )
        return self._places([(self.newest, torch.arange(len(self.newest.indices)))])

    def of(self, indices: Any) -> Places:
        """Those of ``indices`` (b,), in their order: of the oldest batches that still wait for them, else the newest.

        Raises:
            TypeError, ValueError: not integers, or a sample that no batch of late held.
        """
        wanted = _integers(indices)
        for batch in self._batches:
            if batch.untouched and torch.equal(batch.indices, wanted):
                return self._places([(batch, torch.arange(len(wanted)))])
        free: dict[int, list[tuple[Presented, int]]] = {}
        batches = [batch for batch in self._batches if bool(torch.isin(batch.indices, wanted).any())]
        for again in (False, True):
            for batch in reversed(batches) if again else batches:
                for position in (batch.told == again).nonzero().flatten().tolist():
                    free.setdefault(int(batch.indices[position]), []).append((batch, position))
        unknown = [index for index in wanted.tolist() if index not in free]
        if unknown or not len(wanted):
            raise ValueError(
                f"indices name samples {unknown[:10]} that no batch of late held. Give loader.indices as it was when "
                "the batch was handed out, or the part of it whose losses these are. A pass through which nothing was "
                "told, nor loader.indices asked for, is taken for a look at batches: ask for them when one is fetched."
            )
        found: dict[Presented, list[tuple[int, int]]] = {}
        for place, index in enumerate(wanted.tolist()):
            places = free[index]
            batch, position = places.pop(0) if len(places) > 1 else places[0]
            found.setdefault(batch, []).append((place, position))
        order = torch.tensor([place for pairs in found.values() for place, _ in pairs])
        parts = [(batch, torch.tensor([position for _, position in pairs])) for batch, pairs in found.items()]
        return self._places(parts, order.argsort())

    def _places(self, parts: list[tuple[Presented, Tensor]], order: Tensor | None = None) -> Places:
        def joined(columns: list[Tensor]) -> Tensor:
            column = torch.cat(columns) if len(columns) > 1 else columns[0]
            return column if order is None else column[order]

        weighted = any(batch.weights is not None for batch, _ in parts)
        weights = [
            torch.ones(len(at), dtype=torch.float32) if batch.weights is None else batch.weights[at]
            for batch, at in parts
        ]
        first = [~batch.told[at] for batch, at in parts]
        trained: dict[float, int] = {}
        for (batch, _), new in zip(parts, first, strict=True):  # this rank's progress within a batch stands for all
            size, before = len(batch.indices), len(batch.indices) - batch.left
            told = batch.of * (before + int(new.sum())) // size - batch.of * before // size
            trained[batch.pixels] = trained.get(batch.pixels, 0) + told
        return Places(
            parts,
            parts[0][0].epoch,
            joined([batch.indices[at] for batch, at in parts]),
            joined(weights) if weighted else None,
            joined(first),
            sum(len(batch.indices) for batch, _ in parts) * self.ranks / sum(batch.of for batch, _ in parts),
            trained,
            sum(batch.untouched for batch, _ in parts),
        )


def _integers(indices: Any) -> Tensor:
    try:
        found = torch.as_tensor(indices).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)  # refused below
    if found.ndim != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"indices={indices!r} must be a list or tensor of integers, one a loss, as loader.indices is.")
    return found.long()
