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
import operator
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.distributed.plan_sync import agreed_order
from leantrain.distributed.process_group import Ranks

Kind = Literal["train", "score", "open", "refresh"]


@dataclass(frozen=True, slots=True)
class Request:
    """A batch asked of the DataLoader.

    Args:
        kind: ``"train"`` on it, ``"score"`` it and choose, put it into the ``"open"`` batch as it is, or ``"refresh"``
            what is known of it.
        indices: (B,) int64, this rank's.
        whole: (W * B,) int64, those of all ranks, one after the other.
        number: of the judged batch within the epoch.
        position: share of the epoch done once this batch is dealt with.
    """

    kind: Kind
    indices: Tensor
    whole: Tensor
    number: int
    position: float


LEADING = -1  # number of the request for the open batch that an epoch begins with


@dataclass(slots=True)
class Course:
    """How far an epoch is: with the selector's state, all that is needed to go on in its middle.

    Attributes:
        mode: how the epoch runs: ``"all"``, ``"stored"`` or ``"fresh"``.
        order: what the user's sampler yielded and the plan kept.
        cuts: sizes of the batches, where they are fixed.
        dealt: requests whose batch was dealt with, those for the refresh and the leading open batch left out.
        refreshed: requests of the refresh that were.
        held: (K,) int64 of each rank: its open batch within a fresh epoch.
        begun: whether anything was dealt with at all.
    """

    mode: str
    order: Tensor
    cuts: list[int] | None
    dealt: int = 0
    refreshed: int = 0
    held: list[Tensor] = field(default_factory=list)
    begun: bool = False


class Stream:
    """Batch sampler of the inner DataLoader. Hands out lists of indices and notes in ``requests`` what each is for.

    Batches come back in the order in which they were asked for, so the first of ``requests`` always tells about the
    next batch, whatever the number of workers and however far they prefetch.

    Attributes:
        open: (K,) int64, indices of the open training batch between epochs, of all ranks. Indices only: the samples are
            read again, which keeps the state small and exact.
        course: how far the running epoch is; None before its first batch was asked for.
    """

    def __init__(self, loader: DataLoader[Any], selector: Selector, run: Run, stats: Stats, ranks: Ranks) -> None:
        self.requests: deque[Request] = deque()
        self.course: Course | None = None
        self.open = torch.empty(0, dtype=torch.int64)
        self.batch_size: int | None = getattr(loader.batch_sampler, "batch_size", None)
        self.drop_last = bool(getattr(loader.batch_sampler, "drop_last", False))
        self._loader, self._selector, self._run, self._stats, self._ranks = loader, selector, run, stats, ranks
        self._plain = type(loader.batch_sampler) is BatchSampler
        # Of a BatchSampler that the user made, the DataLoader itself does not know the sampler.
        self.sampler = loader.batch_sampler.sampler if self._plain else loader.sampler  # pyright: ignore

    def start(self, epoch: int, plan: Plan, resumed: "Course | None" = None) -> None:
        """Make the next iteration that of ``epoch``; with ``resumed``, from where that one was."""
        self.requests.clear()
        self._epoch, self._plan = epoch, plan
        self.course = resumed

    def deal_with_next(self) -> Request:
        """The request whose batch is there: from now on it counts as dealt with."""
        request = self.requests.popleft()
        assert self.course is not None
        self.course.begun = True
        if request.kind == "refresh":
            self.course.refreshed += 1
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

    def keep(self, parts: list[Tensor], kept: Tensor) -> Tensor:
        """Put ``kept`` (K,) into the ranks' open batches: positions within all ``parts``, one of each rank.

        Returns (L,) positions of those of this rank, within its part.
        """
        assert self.course is not None
        start, own = 0, []
        for part in parts:
            own.append(kept[(kept >= start) & (kept < start + len(part))] - start)
            start += len(part)
        held = zip(self.course.held, parts, own, strict=True)
        self.course.held = [torch.cat([before, part[positions]]) for before, part, positions in held]
        return own[self._ranks.rank]

    def pop(self, least: int | None = None) -> tuple[Tensor, int] | None:
        """The next training batch: this rank's indices, and how many samples all ranks have. None: one has too few."""
        assert self.course is not None
        batch, held = self.batch_size or 1, self.course.held
        if min(map(len, held)) < (least or (batch if self._selector.refill else 1)):
            return None
        self.course.held = [indices[batch:] for indices in held]
        return held[self._ranks.rank][:batch], sum(len(indices[:batch]) for indices in held)

    def leftover(self) -> Iterator[tuple[Tensor, int]]:
        """The batches of what is left at the end of the training, dealt out evenly: fewer than W samples go unused."""
        if self.last_epoch and not self.drop_last and self.course is not None:
            self.course.held = list(torch.cat(self.course.held).tensor_split(self._ranks.count))
            while given := self.pop(least=1):
                yield given

    def close(self) -> None:
        """The epoch is over: what the ranks hold waits for the next one."""
        assert self.course is not None
        if self.fresh:
            self.open = torch.cat(self.course.held)
        refresh = () if self._plan.refresh is None else self._plan.refresh
        if self.course.refreshed * self._size < len(refresh):
            warnings.warn(
                f"Epoch {self._epoch} was left before {type(self._selector).__name__} had the losses of {len(refresh)} "
                "samples refreshed. Iterate to its end; where a framework stops after the last batch, call "
                "loader.end_epoch() then.",
                stacklevel=4,
            )

    def length(self, epoch: int, plan: Plan) -> int:
        """Batches of ``epoch`` with ``plan``; for online methods the most that there can be."""
        share = self._share(epoch)
        if plan.batch_sizes is not None and share == 1:
            cuts = [*[len(self.open)][: len(self.open)], *plan.batch_sizes]
            return sum(1 for _ in self._cut(torch.empty(sum(cuts)), cuts, self._ranks.count))
        if not self._plain and (self.batch_size is None or len(plan.indices) == self._run.size) and share == 1:
            return len(self._loader)
        try:
            yielded = len(self.sampler)  # pyright: ignore[reportArgumentType]
        except TypeError:
            yielded = self._run.size
        if isinstance(self.sampler, DistributedSampler):
            yielded = min(yielded * self._ranks.count, self._run.size)
        planned = math.ceil(share * min(len(plan.indices), yielded) - 1e-6)
        full, rest = divmod(planned + len(self.open), self._size)
        joins = rest < self._fewest(planned) and full and self._selector.loss_age(epoch) is None
        return full if self.drop_last or joins or not rest else full + 1

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
            order, cuts = self._order()
            self.course = Course(self._mode(order), order, cuts)
            if self.course.mode == "fresh":
                self.course.held = list(self.open.tensor_split(self._ranks.count))
        course = self.course
        if course.mode == "fresh":  # decided as the scores come in, so what is dealt with is over
            yield from self._fresh(course)
        else:  # decided ahead of loading, so the same decisions are made again
            made = self._all if course.mode == "all" else self._stored
            yield from islice(made(course.order, course.cuts), course.dealt, None)
        if self._plan.refresh is not None:
            for number, chunk in islice(enumerate(self._plan.refresh.split(self._size)), course.refreshed, None):
                yield self._request("refresh", chunk, number, 1.0)

    def _request(self, kind: Kind, whole: Tensor, number: int, position: float) -> Request:
        own = self._ranks.share(whole)
        return Request(kind, own if len(own) else whole[:1], whole, number, position)  # none: one is scored again

    def _mode(self, order: Tensor) -> str:
        age = self._selector.loss_age(self._epoch)
        if age is None:
            return "all"
        return "stored" if self._run.ledger.scored_within(order, self._epoch, age) else "fresh"

    def _all(self, order: Tensor, cuts: list[int] | None) -> Iterator[Request]:
        fewest = self._fewest(len(order)) if cuts is None else self._ranks.count
        if len(self.open):
            cuts = None if cuts is None or self._plan.batch_sizes is None else [len(self.open), *cuts]
            order, self.open = torch.cat([self.open, order]), self.open[:0]
        done, total = 0, len(order)
        if cuts is None and self.drop_last:
            order = order[: total // self._size * self._size]
        for number, chunk in enumerate(self._cut(order, cuts, fewest)):
            done += len(chunk)
            yield self._request("train", chunk, number, done / total)

    def _stored(self, order: Tensor, cuts: list[int] | None) -> Iterator[Request]:
        done, least = 0, self._size if self._selector.refill else self._ranks.count
        for number, chunk in self._judged(order, cuts):
            done += len(chunk)
            losses = self._run.ledger.score[chunk]
            if self._judges(number, chunk):
                chunk = chunk[losses.isfinite()]  # a sample that scored NaN is not selected
                chunk = chunk[self.select(number, chunk, losses[losses.isfinite()])]
            self.open = torch.cat([self.open, chunk])
            while len(self.open) >= least:
                full, self.open = self.open[: self._size], self.open[self._size :]
                yield self._request("train", full, number, done / len(order))
        if len(self.open) >= self._ranks.count and self.last_epoch and not self.drop_last:
            full, self.open = self.open, self.open[:0]
            yield self._request("train", full, 0, 1.0)

    def _fresh(self, course: Course) -> Iterator[Request]:
        order, held = course.order, course.held[self._ranks.rank]
        done = sum(len(chunk) for _, chunk in islice(self._judged(order, course.cuts), course.dealt))
        if len(held):
            yield Request("open", held, torch.cat(course.held), LEADING, done / len(order))
        for number, chunk in islice(self._judged(order, course.cuts), course.dealt, None):
            done += len(chunk)
            kind = "score" if self._judges(number, chunk) else "open"
            yield self._request(kind, chunk, number, done / len(order))

    def _judged(self, order: Tensor, cuts: list[int] | None) -> Iterator[tuple[int, Tensor]]:
        """The batches that are judged one by one, numbered: the original ones, or as many as are joined."""
        joined = self._selector.scoring_batches
        fewest = self._ranks.count
        return enumerate(self._cut(order, cuts if joined == 1 else None, fewest, joined * self._size))

    def _judges(self, number: int, chunk: Tensor) -> bool:
        if self._selector.judges(self._epoch, number):
            return True
        self._selector.pass_over(self._epoch, number, chunk)
        return False

    def _order(self) -> tuple[Tensor, list[int] | None]:
        """What the user's sampler yields and the plan keeps; and the sizes of the user's own batches where they hold.

        Runs only once the inner iterator asks for its first batch, as in plain PyTorch, so that the user's generator
        is drawn from in the same order.
        """
        order, cuts = self._own_order()
        counts = torch.bincount(self._plan.indices, minlength=self._run.size)
        sizes = self._plan.batch_sizes
        if sizes is not None or int(counts.max()) > 1:
            if type(self.sampler) not in (RandomSampler, SequentialSampler, DistributedSampler) or not self._plain:
                what = "draws samples repeatedly" if sizes is None else "makes its own batches"
                raise ValueError(
                    f"{type(self._selector).__name__} {what} and cannot follow a custom sampler. Use shuffle=True in "
                    "the DataLoader."
                )
            order, cuts = self._plan.indices, None if sizes is None else list(sizes)
        else:
            wanted = counts[order] > 0
            if not bool(wanted.all()):
                order, cuts = order[wanted], None
        share = self._share(self._epoch)
        if share < 1:
            order = order[: math.ceil(share * len(order) - 1e-6)]
            cuts = cuts if sizes is not None else None
        if len(order) < self._ranks.count:
            raise ValueError(f"Epoch {self._epoch} has {len(order)} samples for {self._ranks.count} ranks. Use fewer.")
        return order, cuts

    def _share(self, epoch: int) -> float:
        """Of ``epoch`` that belongs to the training: less than 1 where ``epochs`` cuts the last one short."""
        epochs = self._run.epochs
        return epochs - epoch if epochs is not None and epoch < epochs < epoch + 1 else 1.0

    def _own_order(self) -> tuple[Tensor, list[int] | None]:
        cuts = None
        if self._plain:
            order = agreed_order(_integers(self._whole(self.sampler)), self.sampler, self._ranks)
        else:
            own = [_integers(list(batch)) for batch in self._whole(self._loader.batch_sampler)]
            order, cuts = torch.cat([torch.empty(0, dtype=torch.int64), *own]), [len(batch) for batch in own]
            self.batch_size = self.batch_size or max(cuts, default=1)
        size = self._run.size
        if len(order) and (int(order.min()) < 0 or int(order.max()) >= size):
            raise ValueError(
                f"The sampler yields indices {int(order.min())} to {int(order.max())}; the data set has {size} "
                f"samples, 0 to {size - 1}."
            )
        return order, cuts

    def _whole(self, sampler: Any) -> list[Any]:
        """All that a sampler yields in an epoch; an endless one, which has no length, is refused."""
        if hasattr(sampler, "__len__"):
            return list(sampler)
        most = 100 * self._run.size
        found = list(islice(sampler, most + 1))
        if len(found) > most:
            raise ValueError(
                f"{type(sampler).__name__} yields more than {most} times and has no length: is it endless? wrap() "
                "plans epoch by epoch and needs one that ends."
            )
        return found

    @property
    def _size(self) -> int:
        return (self.batch_size or 1) * self._ranks.count

    def _fewest(self, planned: int) -> int:
        """Samples that the last batch of an epoch must have, or it joins the one before: one a rank, which would wait.

        A selection rarely fills its last batch, so there it is two: BatchNorm finds no variance in one.
        """
        return self._ranks.count * (1 if planned == self._run.size else 2)

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


def _integers(indices: list[Any]) -> Tensor:
    try:
        return torch.tensor([*map(operator.index, indices)], dtype=torch.int64)
    except TypeError as error:
        raise TypeError(f"wrap() needs a sampler of integer indices: {error}") from error
