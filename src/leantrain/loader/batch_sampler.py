"""The stream of requests behind one epoch: which samples are loaded, in which batches, and what for.

N = size of the data set, B = samples of a batch, W = number of ranks. An epoch runs in one of three ways:

- *all*: no online choice; the planned samples are loaded and trained on.
- *stored*: an online method knows every loss already; it chooses before loading, so nothing else is read.
- *fresh*: original batches are loaded to be scored; the kept samples fill the open batch.

After it come the samples that the plan wants refreshed: scored, not trained on.

Several ranks run the same stream: batches of W * B samples, as one process would have, of which each loads its part.
What is decided is decided on the whole batch and the same on all ranks, so each knows what the others hold, and that
all have a batch to train on before one does.
"""

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Any, Literal

import torch
from torch import Tensor

from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.loader.open_batch import NOTHING, OpenBatch
from leantrain.loader.user_order import UserOrder

Kind = Literal["train", "score", "open", "refresh"]


@dataclass(frozen=True, slots=True)
class Request:
    """A batch asked of the DataLoader.

    Args:
        kind: ``"train"`` on it, ``"score"`` it and choose, put it into the ``"open"`` batch as it is, or ``"refresh"``
            what is known of it.
        indices: (B,) int64, this rank's.
        parts: (B,) int64 of each rank.
        number: of the judged batch within the epoch.
        position: share of the epoch done once this batch is dealt with.
    """

    kind: Kind
    indices: Tensor
    parts: list[Tensor]
    number: int
    position: float

    @property
    def of(self) -> int:
        """Samples of all ranks."""
        return sum(map(len, self.parts))


LEADING = -1  # number of the request for the open batch that an epoch begins with
AGAIN = -2  # of one for a batch that was handed out before a stop, and not trained on


@dataclass(slots=True)
class Course:
    """How far an epoch is: with the selector's state, all that is needed to go on in its middle.

    Attributes:
        mode: how the epoch runs: ``"all"``, ``"stored"`` or ``"fresh"``.
        order: what the user's sampler yielded and the plan kept.
        cuts: sizes of the batches, where they are fixed.
        dealt: requests whose batch was dealt with, those for the refresh and the leading open batch left out.
        refreshed: requests of the refresh that were.
        begun: whether anything was dealt with at all.
        again: batches that were handed out and not trained on, indices of each rank: they come again first.
    """

    mode: str
    order: Tensor
    cuts: list[int] | None
    dealt: int = 0
    refreshed: int = 0
    begun: bool = False
    again: list[list[Tensor]] = field(default_factory=list)


class SelectionSampler:
    """Batch sampler of the inner DataLoader. Hands out lists of indices and notes in ``requests`` what each is for.

    Batches come back in the order in which they were asked for, so the first of ``requests`` always tells about the
    next batch, whatever the number of workers and however far they prefetch.

    Attributes:
        order: what the user's sampler says.
        course: how far the running epoch is; None before its first batch was asked for.
        pool_size: samples that the running epoch's plan was made over.
    """

    def __init__(self, order: UserOrder, opened: OpenBatch, selector: Selector, run: Run, stats: Stats) -> None:
        self.order, self.open, self.ranks = order, opened, opened.ranks
        self.requests: deque[Request] = deque()
        self.course: Course | None = None
        self.pool_size = run.size
        self._selector, self._run, self._stats = selector, run, stats

    def start(
        self,
        epoch: int,
        planned: Callable[[Tensor | None], Plan],
        resumed: Course | None = None,
        held: list[Tensor] | None = None,
    ) -> None:
        """Make the next iteration that of ``epoch``; with ``resumed`` and ``held``, from where that one was.

        ``planned`` gives its plan, once it is known what the user's sampler gives.
        """
        self.requests.clear()
        self._epoch, self._planned = epoch, planned
        self.course, self._held = resumed, held

    def deal_with_next(self) -> Request:
        """The request whose batch is there: from now on it counts as dealt with."""
        request = self.requests.popleft()
        assert self.course is not None
        self.course.begun = True
        if request.kind == "refresh":
            self.course.refreshed += 1
        elif request.number == AGAIN:
            self.course.again.pop(0)
        elif request.number != LEADING:
            self.course.dealt += 1
        return request

    @property
    def last_epoch(self) -> bool:
        """Whether the running epoch ends the training."""
        return self._run.epochs is not None and self._epoch + 1 >= self._run.epochs

    @property
    def fresh(self) -> bool:
        """Whether the running epoch is decided as its scores come in."""
        return self.course is not None and self.course.mode == "fresh"

    @property
    def _waits(self) -> bool:
        """Whether kept samples wait until a batch is full. Not where the user's batches have a meaning of their own."""
        return self._selector.refill and self.order.plain

    def pop(self) -> tuple[list[Tensor], Any] | None:
        """The next training batch that is full on all ranks, see ``OpenBatch.pop``."""
        batch = (self.order.batch_size or 1) if self.order.plain else len(self.open.held[0])
        return self.open.pop(batch, batch if self._waits else 1)

    def leftover(self) -> Iterator[tuple[list[Tensor], Any]]:
        """The batches of what is left at the end of the training, dealt out evenly: fewer than W samples go unused."""
        if self.fresh and self.last_epoch and not self.order.drop_last:
            self.open.deal_out()
            while given := self.open.pop(self.order.batch_size or 1, 1):
                yield given

    def close(self) -> None:
        """The epoch is over: what the ranks hold waits for the next one."""
        assert self.course is not None
        if self.fresh:
            self.open.close()
        if (refresh := self._planned(None).refresh) is not None and self.course.refreshed * self._size < len(refresh):
            warnings.warn(
                f"Epoch {self._epoch} was left before {type(self._selector).__name__} had the losses of {len(refresh)} "
                "samples refreshed. Iterate to its end; where a framework stops after the last batch, call "
                "loader.end_epoch() then.",
                stacklevel=4,
            )

    def length(self, epoch: int, plan: Plan) -> int:
        """Batches of ``epoch`` with ``plan``; the most that there can be for online methods, and for samplers that
        draw with repeats or only a part."""
        share, waiting = self._share(epoch), len(self.open.indices)
        if plan.batch_sizes is not None:
            cuts = [*[waiting][:waiting], *self._first(epoch, plan.batch_sizes)]
            return sum(1 for _ in self._cut(torch.empty(sum(cuts)), cuts, self.ranks.count))
        repeats = len(plan.indices) > self.pool_size
        exact = self.order.once and not repeats
        yielded = min(len(plan.indices), self.order.samples()) if exact else self.order.samples()
        planned = math.ceil(share * (len(plan.indices) if repeats else yielded) - 1e-6)
        full, rest = divmod(planned + waiting, self._size)
        joins = rest < self._fewest(epoch, plan) and full and self._selector.loss_age(epoch) is None
        return full if self.order.drop_last or joins or not rest else full + 1

    def own_length(self, epoch: int) -> int:
        """The most batches of ``epoch`` where only drawing tells what the user's sampler gives."""
        share = self._share(epoch) if self.order.plain else 1.0  # the user's own are of any size
        more = self.order.drop_last and len(self.open.indices) > 0  # a dropped rest, with what waits, may be one
        return math.ceil(share * self.order.batches() - 1e-6) + more

    def select(self, number: int, indices: Tensor, losses: Tensor) -> Tensor:
        """The selector's choice among ``indices`` (B,): (K,) positions."""
        start = time.perf_counter()
        kept = self._selector.select(Batch(self._epoch, number, indices, losses))
        self._stats.select_seconds += time.perf_counter() - start
        return kept

    def __iter__(self) -> Iterator[list[int]]:
        for request in self._requests_of_epoch():
            self.requests.append(request)
            yield request.indices.tolist()

    def _requests_of_epoch(self) -> Iterator[Request]:
        if self.course is None:
            drawn, cuts = self.order.draw()
            self._plan = self._planned(drawn)
            order, cuts = self._kept(drawn, cuts)
            self.course = Course(self._mode(order), order, cuts)
        else:
            self._plan = self._planned(None)
        course = self.course
        for parts in list(course.again):
            yield Request("train", parts[self.ranks.rank], parts, AGAIN, 0.0)
        if course.mode == "fresh":  # decided as the scores come in, so what is dealt with is over
            yield from self._fresh(course)
        else:  # decided ahead of loading, so the same decisions are made again
            made = self._all if course.mode == "all" else self._stored
            yield from islice(made(course.order, course.cuts), course.dealt, None)
        if self._plan.refresh is not None:
            for number, chunk in islice(enumerate(self._plan.refresh.split(self._size)), course.refreshed, None):
                yield self._request("refresh", chunk, number, 1.0)

    def _request(self, kind: Kind, whole: Tensor, number: int, position: float) -> Request:
        parts = list(whole.tensor_split(self.ranks.count))
        own = parts[self.ranks.rank]
        return Request(kind, own if len(own) else whole[:1], parts, number, position)  # none: one is scored again

    def _mode(self, order: Tensor) -> str:
        age = self._selector.loss_age(self._epoch)
        if age is None:
            return "all"
        return "stored" if self._run.ledger.scored_within(order, self._epoch, age) else "fresh"

    def _all(self, order: Tensor, cuts: list[int] | None) -> Iterator[Request]:
        fewest = self._fewest(self._epoch, self._plan) if cuts is None else self.ranks.count
        if waiting := len(self.open.indices):
            cuts = None if cuts is None or self._plan.batch_sizes is None else [waiting, *cuts]
            order, self.open.indices = torch.cat([self.open.indices, order]), NOTHING
        done, total = 0, len(order)
        if cuts is None and self.order.drop_last:
            order = order[: total // self._size * self._size]
        for number, chunk in enumerate(self._cut(order, cuts, fewest)):
            done += len(chunk)
            yield self._request("train", chunk, number, done / total)

    def _stored(self, order: Tensor, cuts: list[int] | None) -> Iterator[Request]:
        done, least = 0, self._size if self._waits else self.ranks.count
        waiting = self.open.indices
        for number, chunk in self._judged(order, cuts):
            done += len(chunk)
            losses = self._run.ledger.score[chunk]
            if self._judges(number, chunk):
                chunk = chunk[losses.isfinite()]  # a sample that scored NaN is not selected
                chunk = chunk[self.select(number, chunk, losses[losses.isfinite()])]
            waiting = torch.cat([waiting, chunk])
            while len(waiting) >= least:
                size = self._size if self.order.plain else len(waiting)
                full, waiting = waiting[:size], waiting[size:]
                self.open.indices = waiting
                yield self._request("train", full, number, done / len(order))
        self.open.indices = waiting
        if len(waiting) >= self.ranks.count and self.last_epoch and not self.order.drop_last:
            self.open.indices = NOTHING
            yield self._request("train", waiting, 0, 1.0)

    def _fresh(self, course: Course) -> Iterator[Request]:
        order, held = course.order, self.open.start(self._held)
        done = sum(len(chunk) for _, chunk in islice(self._judged(order, course.cuts), course.dealt))
        if len(whole := torch.cat(held)):
            own = held[self.ranks.rank]
            yield Request("open", own if len(own) else whole[:1], held, LEADING, done / len(order))
        for number, chunk in islice(self._judged(order, course.cuts), course.dealt, None):
            done += len(chunk)
            kind = "score" if self._judges(number, chunk) else "open"
            yield self._request(kind, chunk, number, done / len(order))

    def _judged(self, order: Tensor, cuts: list[int] | None) -> Iterator[tuple[int, Tensor]]:
        """The batches that are judged one by one, numbered: the original ones, or as many as are joined."""
        joined = self._selector.scoring_batches if self.order.plain else 1
        if self.order.plain and self.order.drop_last and not self._waits:
            order = order[: len(order) // self._size * self._size]
        return enumerate(self._cut(order, cuts if joined == 1 else None, self.ranks.count, joined * self._size))

    def _judges(self, number: int, chunk: Tensor) -> bool:
        if self._selector.judges(self._epoch, number):
            return True
        self._selector.pass_over(self._epoch, number, chunk)
        return False

    def _kept(self, order: Tensor, cuts: list[int] | None) -> tuple[Tensor, list[int] | None]:
        """What the plan keeps of ``order``, which the user's sampler yields; and the sizes of the batches where they
        hold: those of the plan, or of the user's own batches, of which the plan leaves out some samples."""
        counts = torch.bincount(self._plan.indices, minlength=self._run.size)
        sizes = self._plan.batch_sizes
        if sizes is not None or int(counts.max()) > 1:
            if not self.order.replaceable:
                what = "draws samples repeatedly" if sizes is None else "makes its own batches"
                raise ValueError(
                    f"{type(self._selector).__name__} {what} and cannot follow a custom sampler, nor one that draws "
                    "with repeats or a part of the data. Use shuffle=True in the DataLoader, of a Subset if need be."
                )
            order, cuts = self._plan.indices, None if sizes is None else list(self._first(self._epoch, sizes))
        else:
            wanted = counts[order] > 0
            if not bool(wanted.all()):
                cuts = cuts and [count for batch in wanted.split(cuts) if (count := int(batch.sum()))]
                order = order[wanted]
        order = self._first(self._epoch, order) if sizes is None else order[: sum(cuts or [])]
        if len(order) < self.ranks.count:
            raise ValueError(f"Epoch {self._epoch} has {len(order)} samples for {self.ranks.count} ranks. Use fewer.")
        return order, cuts

    def _share(self, epoch: int) -> float:
        """Of ``epoch`` that belongs to the training: less than 1 where ``epochs`` cuts the last one short."""
        epochs = self._run.epochs
        return epochs - epoch if epochs is not None and epoch < epochs < epoch + 1 else 1.0

    def _first(self, epoch: int, whole: Any) -> Any:
        """Those of ``whole``, samples or sizes of batches, that belong to the training."""
        return whole[: math.ceil(self._share(epoch) * len(whole) - 1e-6)]

    @property
    def _size(self) -> int:
        return (self.order.batch_size or 1) * self.ranks.count

    def _fewest(self, epoch: int, plan: Plan) -> int:
        """Samples that the last batch of an epoch must have, or it joins the one before: one a rank, which would wait;
        two where a selection leaves a rest, as BatchNorm finds no variance in one."""
        return self.ranks.count * (1 + (self._share(epoch) < 1 or len(plan.indices) < self.pool_size))

    def _cut(self, order: Tensor, cuts: list[int] | None, fewest: int, size: int | None = None) -> Iterator[Tensor]:
        """``order`` in pieces of the sizes ``cuts``, else of ``size`` or a batch each; under ``fewest`` they join."""
        start = end = 0
        for length in cuts if cuts is not None else repeat(size or self._size):
            more = min(length, len(order) - end)  # a last epoch that is cut short needs fewer batches
            if more >= fewest <= end - start:
                yield order[start:end]
                start = end
            end += more
            if end == len(order):
                break
        if end > start:
            yield order[start:end]
