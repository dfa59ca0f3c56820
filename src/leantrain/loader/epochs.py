"""One epoch after the other: planned, loaded, scored, handed out batch by batch, ended.

An epoch ends when its iterator is exhausted and the losses of its last batch are told, when a new iterator is made
after at least one training step, or by ``Loader.end_epoch``. A pass without a training step is no epoch once a loop has
shown that it tells losses, nor is one without gradients: it leaves everything as it was.

N = size of the data set, B = samples of a batch, K = samples kept of it, W = number of ranks.
"""

import copy
import math
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from leantrain.core.plan import Plan
from leantrain.core.presented import Places, Presentations, Presented
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import Exchange
from leantrain.distributed.plan_sync import agreed_plan, check_ranks
from leantrain.loader import dataloader
from leantrain.loader.batch_sampler import AGAIN, Course, Request, SelectionSampler
from leantrain.loader.unreadable_samples import Reading
from leantrain.scoring.loss_recording import ScoringPass
from leantrain.utils import nested_batch
from leantrain.utils.sampler_pool import sampler_part


class Epochs:
    """The course of a training, epoch by epoch.

    Args:
        user: the user's DataLoader.
        inner: its copy that reads what ``sampler`` asks for.
        selector, run, stats: of the run.
        sampler: what is loaded, and what for.
        reading, scoring, exchange: what becomes of unreadable samples, of batches to score, and of facts of all ranks.
        pins: whether batches come to page-locked memory here, since they were joined here.
        steps: length of the training, where it was told in steps.

    Attributes:
        number: of the running epoch, or between epochs of the next one.
        presented: the batches that were handed out.
        plan: of the running epoch, or made already for the next one.
        position: share of the running epoch that is done.
        done: share of the training's work that was done by the end of the last epoch, where its view said so.
        viewed: whether the loop ever asked for a view.
        told: whether losses of the running pass were told.
        resumed: state of a running epoch to go on with.
        before_plan: the selector's state before the plan was made.
        at_start: the selector's state and the open batch before the pass; None between epochs.
        draws: the user's generators before the pass.
        callbacks: called whenever an epoch is planned, before its first batch is loaded.
        rate_is_followed: whether anybody asked for the factor of the learning rate.
        asked: whether the loop asked for the indices of a batch of the running pass.
    """

    def __init__(
        self,
        user: DataLoader[Any],
        inner: DataLoader[Any],
        selector: Selector,
        run: Run,
        stats: Stats,
        sampler: SelectionSampler,
        reading: Reading,
        scoring: ScoringPass,
        exchange: Exchange,
        pins: bool,
        steps: int | None,
    ) -> None:
        self.user, self.inner, self.selector, self.run, self.stats = user, inner, selector, run, stats
        self.sampler, self.reading, self.scoring, self.exchange, self.pins = sampler, reading, scoring, exchange, pins
        self.open, self.ranks, self.steps = sampler.open, sampler.ranks, steps
        self.presented = Presentations(self.ranks.count)
        self.number, self.position, self._given = 0, 0.0, 0  # _given: batches of the running pass
        self.plan: Plan | None = None
        self.told = self.asked = self.rate_is_followed = self.viewed = False
        self.done: float | None = None
        self.resumed: dict[str, Any] | None = None
        self.before_plan: dict[str, Any] = {}
        self.at_start: tuple[dict[str, Any], Tensor] | None = None
        self.draws: list[Tensor] = []
        self.callbacks: list[Callable[[], None]] = []
        self._weights: Tensor | None = None  # (N,) of the running epoch
        self._pass = 0  # which iterator is the running one
        self._iterator: Any = None  # weak reference to it; it ends with who iterates
        self._ever_told = False
        self._begun = False  # whether the plan of the running pass is there
        self._with_gradients = False  # whether a batch of the running pass was asked for outside of no_grad
        self._exhausted = False  # the iterator is; where the epoch goes on, its last batch waits for its losses
        self._tried = "score" not in selector.needs  # whether the scoring function was

    def make_plan(self, pool: Tensor) -> Plan:
        """Ask the selector for the plan of the epoch over ``pool`` (M,) int64, unless that was done."""
        self.run.pool = sampler_part(self.user)
        if self.plan is None:
            start = time.perf_counter()
            if self.steps is not None:  # the whole epochs that they come to, if those left leave nothing out
                left = max(0, self.steps - self.steps_begun)
                self.run.epochs = max(1, self.number + math.ceil(left / self.sampler.order.batches()))
            self.before_plan = self.selector.state_dict()
            plan = self.selector.plan(self.number, pool)
            who = type(self.selector).__name__
            if plan.refresh is not None and self.scoring.score is None:
                raise ValueError(f"{who} refreshes what it knows of samples, which needs wrap(..., score=...).")
            plan.check(who, self.run, self.number, len(pool))
            self.plan, self.sampler.pool_size = plan, len(pool)
            self.stats.plan_seconds += time.perf_counter() - start
        return self.plan

    def iterate(self) -> Iterator[Any]:
        """A new pass; only the newest one goes on."""
        iterator = self._batches()
        self._iterator = weakref.ref(iterator)
        return iterator

    def tell(self, places: Places) -> None:
        """Losses were told: of the running pass, or late, of one before."""
        self._ever_told = True
        if not self.presented.over and any(batch.run_through == self._pass for batch, _ in places.parts):
            self.told = True
        newest = self.presented.newest
        if self._exhausted and newest and not newest.untouched:
            self._end()

    @property
    def steps_begun(self) -> int:
        """Training batches so far, the newest included; where losses are told, only those that have them or wait."""
        told = self.stats.steps + self.stats.skipped_steps
        return told + len(self.presented.untold) if told else self.stats.batches

    def settle(self) -> None:
        """End an epoch that only waits for the losses of its last batch."""
        if self._exhausted:
            self._leave()

    def end(self) -> None:
        """See ``Loader.end_epoch``."""
        iterator: Any = self._iterator() if self._iterator else None
        if self.told and getattr(iterator, "gi_suspended", False):
            next(iterator, None)
        if self.told:  # there was another batch, or losses that never came
            self._end()

    def restart(self, number: int, opened: Tensor, resumed: dict[str, Any] | None) -> None:
        """Begin at epoch ``number`` with what is in the open batch, or in its middle where it is ``resumed``."""
        self._over()
        self.number, self.open.indices, self.plan, self.resumed = number, opened, None, resumed

    def __getstate__(self) -> dict[str, Any]:
        """What can be pickled: not the running iterator, nor who is called at an epoch's start."""
        return vars(self) | {"_iterator": None, "callbacks": []}

    @property
    def expected(self) -> bool:
        """Whether losses are told of each batch: the loop did, asked for indices, or the selector needs them."""
        return self._ever_told or self.asked or "loss" in self.selector.needs

    def _batches(self) -> Iterator[Any]:
        self._leave()
        begun = self._start()
        for request, data in self._loaded():
            self._check_told()
            self.position = self.position if request.number == AGAIN else request.position
            if request.kind == "refresh":
                self.scoring(self.number, request.indices, request.of, self.open.collated(data))
            elif request.kind == "train":
                yield self._hand_out(request.parts, request.indices, data)
            else:
                self.open.keep(*self._choose(request, data), data)
                while ready := self.sampler.pop():
                    yield self._hand_out_open(*ready)
        for ready in self.sampler.leftover():
            yield self._hand_out_open(*ready)
        if not self._given and not begun:
            kept = f"{type(self.selector).__name__} kept too few samples for a single batch."
            warnings.warn(f"Epoch {self.number}: {kept}", stacklevel=2)
        self._exhaust()

    def _exhaust(self) -> None:
        """The pass is through: an epoch, a mere look, or an epoch whose last losses are still to come."""
        newest, self._exhausted = self.presented.newest, True
        if not self.told and not (self._with_gradients or torch.is_grad_enabled()):
            self._undo()
        elif not self._given or not self.expected or (newest and not newest.untouched):
            self._end()
        elif not self.told and not self.asked:  # else the loop fetches ahead
            self._undo()

    def _check_told(self) -> None:
        silent = self._given == 1 and self._with_gradients and not self.told and not self.asked
        if not silent or "loss" not in self.selector.needs:
            return
        raise RuntimeError(
            f"{type(self.selector).__name__} needs the losses of each batch: compute the training loss as "
            'loader.reduce(F.cross_entropy(model(x), y, reduction="none")). Where the loop fetches batches ahead, keep '
            "loader.indices when one is fetched, and say whose losses they are: loader.reduce(losses, indices=ids)."
        )

    def _leave(self) -> None:
        """The running pass, if there is one, is over: an epoch that was left early, or a mere look."""
        if self.told:
            self._end()
        elif self.at_start:
            self._undo()

    def _start(self) -> bool:
        """Get everything ready for the epoch's first batch, or the next one of a resumed epoch; True for the latter."""
        check_ranks(self.user, self.ranks)
        running = self.resumed["running"] if self.resumed else None
        self._begun = self._with_gradients = self.asked = False
        self.draws = dataloader.draws(self.user)
        pool = self.sampler.order.pool()
        if running or pool is not None:
            self._begin(torch.arange(self.run.size) if pool is None else pool)
        self.sampler.start(self.number, self._planned, *self._from(running))
        self.position = running["position"] if running else 0.0
        self._pass += 1
        self.presented.start(self._pass)
        return running is not None

    def _from(self, running: dict[str, Any] | None) -> tuple[Course | None, list[Tensor] | None]:
        if running is None:
            return None, None
        return Course(**copy.deepcopy(running["course"])), running["held"]

    def _planned(self, order: Tensor | None) -> Plan:
        """The plan of the running epoch; ``order`` (M,) is what the sampler gives, where only drawing it tells."""
        if not self._begun:
            assert order is not None
            self._begin(order.unique())
        assert self.plan is not None
        return self.plan

    def _begin(self, pool: Tensor) -> None:
        """Make the plan of the epoch that starts over ``pool`` (M,), the same on all ranks."""
        self.plan = plan = agreed_plan(self.make_plan(pool), self.ranks)
        self._weights = None
        if plan.weights is not None:
            weights = torch.ones(self.run.size, dtype=torch.float32)
            self._weights = weights.index_copy_(0, plan.indices, plan.weights.float())
        self.at_start, self._begun = (self.selector.state_dict(), self.open.indices), True
        for callback in self.callbacks:
            callback()

    def _source(self) -> Iterator[Any]:
        """The inner iterator. That of a resumed epoch draws no seed for its workers: the epoch had drawn it before."""
        if self.resumed is None:
            return iter(self.inner)
        with torch.random.fork_rng([]):
            source = iter(self.inner)
        dataloader.set_draws(self.user, self.resumed["generators"])
        return source

    def _undo(self) -> None:
        """The pass was a mere look at batches: as if it had not been."""
        assert self.at_start is not None
        self.selector.load_state_dict(self.at_start[0])
        self.open.indices, self._exhausted = self.at_start[1], False
        self.stats.batches -= self._given
        if self.sampler.order.pool() is None and not self.resumed:  # the next pass may give other samples
            self.selector.load_state_dict(self.before_plan)
            self.plan = None
        self._over()

    def _end(self) -> None:
        if self.plan is not None and self.plan.lr_factor != 1 and not self.rate_is_followed:
            warnings.warn(
                f"{type(self.selector).__name__} asks for {self.plan.lr_factor:.3g} times the learning rate in epoch "
                f"{self.number}, and nothing follows it. Use leantrain.ProgressLR, or multiply by loader.lr_factor.",
                stacklevel=3,
            )
            self.rate_is_followed = True  # said once
        self.done = self.plan.view.done(1.0) if self.plan and self.plan.view else None
        self.sampler.close()
        self.exchange.flush()
        self.selector.end_epoch(self.number)
        self.number += 1
        self.plan = self.resumed = None
        self._over()

    def _over(self) -> None:
        self.presented.end(waits=self._exhausted)
        self.at_start, self.sampler.course, self._given = None, None, 0
        self.position, self.told, self._exhausted = 0.0, False, False

    def _loaded(self) -> Iterator[tuple[Request, Any]]:
        """Each request of the epoch with its data, as the workers deliver them."""
        source, mine = self._source(), self._pass
        while True:
            if mine != self._pass:
                raise RuntimeError("A newer iterator over this loader was made; only the newest one goes on.")
            start, deciding = time.perf_counter(), self.stats.select_seconds
            try:
                data = next(source)
            except StopIteration:
                return
            except Exception as error:
                self.reading.explain(error, self.sampler.requests, source)
                del source  # its workers end now
                raise
            request = self.sampler.deal_with_next()
            waited = time.perf_counter() - start - (self.stats.select_seconds - deciding)
            self.stats.fetch_cost.append(waited / len(request.indices))
            request, data = self.reading.through(self.number, request, data)
            self.stats.loaded += request.of
            if len(request.indices):
                yield request, data

    def _choose(self, request: Request, data: Any) -> tuple[list[Tensor], Tensor]:
        """What of a batch is kept: its parts on all ranks, and (K,) positions within them. All decide on all losses."""
        parts = self.reading.parts(request)
        whole = torch.cat(parts)
        kept = torch.arange(len(whole))
        if request.kind == "score":
            losses = self.scoring(self.number, request.indices, len(whole), self.open.collated(data))
            losses = torch.cat(self.ranks.gather(losses))
            kept = losses.isfinite().nonzero().flatten()
            kept = kept[self.sampler.select(request.number, whole[kept], losses[kept])]
        return parts, kept

    def _hand_out_open(self, parts: list[Tensor], data: Any) -> Any:
        indices = parts[self.ranks.rank]
        if data is None:  # another rank may have read them
            request, data = self.reading.through(
                self.number, Request("train", indices, parts, 0, 1.0), dataloader.read(self.inner, indices)
            )
            indices = request.indices
        return self._hand_out(parts, indices, data)

    def _hand_out(self, parts: list[Tensor], indices: Tensor, data: Any) -> Any:
        batch = self.open.collated(data)
        weights = None if self._weights is None else self._weights[indices]
        self.presented.add(Presented(self._pass, self.number, parts, indices, weights))
        self.stats.batches, self._given = self.stats.batches + 1, self._given + 1
        self._with_gradients = self._with_gradients or torch.is_grad_enabled()
        if not self._tried:  # a scoring function that does not fit shows now, in whichever epoch it is first needed
            self._tried = True
            if not self.stats.scored:
                self.scoring.try_on(indices, batch)
        return nested_batch.pin(batch) if self.pins else batch
