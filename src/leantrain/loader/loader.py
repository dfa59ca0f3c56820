"""The loader: the user's DataLoader, its batches, fewer samples. It plans, loads, scores, selects and records.

N = size of the data set, B = samples of a batch, K = samples kept of it.
"""

import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from leantrain.core import dataset_info
from leantrain.core.ledger import Ledger
from leantrain.core.plan import Plan
from leantrain.core.presented import Presentations, Presented
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import Exchange
from leantrain.distributed.plan_sync import agreed_plan, check_ranks
from leantrain.distributed.process_group import Ranks
from leantrain.loader import dataloader, state
from leantrain.loader.batch_sampler import Course, Request, SelectionSampler
from leantrain.loader.open_batch import OpenBatch
from leantrain.loader.unreadable_samples import Reading, Unreadable
from leantrain.loader.user_order import UserOrder
from leantrain.scoring.loss_recording import Nonfinite, ScoringPass, TrainingLoss
from leantrain.scoring.scorer import Scores
from leantrain.utils import nested_batch, validation


class Loader:
    """Iterates like the DataLoader it wraps; made by ``wrap``.

    Attributes:
        ledger: the per-sample facts.
        selector: the method.
        stats: counts and seconds so far.
        epoch: the running epoch, or between epochs the next one. An epoch ends when its iterator is exhausted, when
            a new one gives its first batch after at least one training step, or by ``end_epoch``.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        selector: Selector,
        *,
        score: Callable[[Any], Tensor | Scores] | None,
        epochs: float | None,
        targets: Any,
        seed: int,
        nonfinite: Nonfinite,
        unreadable: Unreadable,
    ) -> None:
        size = dataloader.check_loader(loader)
        self.selector = selector
        self.ranks = Ranks()
        self.ledger = Ledger(size)
        self.stats = Stats()
        self.epoch = 0
        self._user = loader
        self._score = score
        self._exchange = Exchange(self.ledger, self.ranks)
        self._scoring = ScoringPass(score, selector, self._exchange, self.stats, strict=nonfinite == "raise")
        self._training_loss = TrainingLoss(selector, self._exchange, self.stats, nonfinite)
        self._run = Run(
            size=size,
            batch_size=(getattr(loader.batch_sampler, "batch_size", None) or 1) * self.ranks.count,
            epochs=None if epochs is None else validation.positive("epochs", epochs),
            seed=validation.integer("seed", seed, least=0),
            ledger=self.ledger,
            targets=dataset_info.labels(loader.dataset, targets, size),
            fingerprint=dataset_info.fingerprint(loader.dataset),
            writes=self.ranks.rank == 0,
            drop_last=bool(getattr(loader.batch_sampler, "drop_last", False)),
        )
        check_ranks(loader, self.ranks)
        selector.setup(self._run)
        # Only the user's own collate_fn knows how to join samples of two batches, so those are kept as samples.
        joinable = loader.collate_fn is default_collate or getattr(loader.collate_fn, "joinable", False)
        self._samples = "score" in selector.needs and not joinable
        self._order = UserOrder(loader, size, self.ranks)
        self._open = OpenBatch(loader.collate_fn if self._samples else None, self.ranks)
        self._stream = SelectionSampler(self._order, self._open, selector, self._run, self.stats)
        self._reading = Reading(unreadable, loader, self._exchange, self.stats)
        self._inner = dataloader.twin(loader, self._stream, keep_samples=self._samples, tolerant=unreadable == "skip")
        self._plan: Plan | None = None
        self._weights: Tensor | None = None  # (N,) weights of the running epoch
        self._presented = Presentations(self.ranks.count)
        self._position = 0.0  # share of the running epoch that is done
        self._before_plan: dict[str, Any] = {}  # the selector's state before the plan was made
        self._at_start: tuple[dict[str, Any], Tensor] | None = None  # selector's state and open batch before the epoch
        self._draws: list[Tensor] = []  # the user's generators before the epoch
        self._resumed: dict[str, Any] | None = None  # state of a running epoch to go on with
        self._iteration = 0  # which iterator is the running one
        self._iterator: Callable[[], Any] = lambda: None  # the newest; it ends with who iterates
        self._reduced = False  # whether the running epoch had a training step
        self._at_epoch_start: list[Callable[[], None]] = []
        self._rate_is_followed = False  # whether anybody asked for lr_factor

    @property
    def dataset(self) -> Any:
        """The user's data set."""
        return self._user.dataset

    @property
    def sampler(self) -> Any:
        """The user's sampler."""
        return self._order.sampler

    @property
    def batch_size(self) -> int | None:
        """The user's batch size."""
        return self._order.batch_size

    @property
    def indices(self) -> Tensor:
        """(B,) int64 data set indices of the batch handed out last."""
        if self._presented.newest is None:
            raise RuntimeError("No batch was handed out yet: iterate over the loader first.")
        return self._presented.newest.indices

    @property
    def progress(self) -> float:
        """Share of the training done, 0 to 1, the batch handed out last included. Needs ``epochs``."""
        epochs = self._run.need_epochs("progress")
        share = min(1.0, max(0.0, epochs - self.epoch))  # a last epoch may be cut short
        return min(1.0, (self.epoch + share * self._position) / epochs)

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate that the method asks for in the running epoch; 1 between epochs."""
        self._rate_is_followed = True
        return 1.0 if self._plan is None else self._plan.lr_factor

    def at_epoch_start(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called whenever an epoch is planned, before its first batch is loaded."""
        self._at_epoch_start.append(callback)

    @property
    def plan(self) -> Plan:
        """The plan of the running epoch, or between epochs of the next one."""
        if self._plan is None:
            start = time.perf_counter()
            self._before_plan = self.selector.state_dict()
            plan = self.selector.plan(self.epoch, torch.arange(self._run.size))
            if plan.refresh is not None and self._score is None:
                who = type(self.selector).__name__
                raise ValueError(f"{who} refreshes what it knows of samples, which needs wrap(..., score=...).")
            plan.check(type(self.selector).__name__, self._run, self.epoch)
            self._plan = plan
            self.stats.plan_seconds += time.perf_counter() - start
        return self._plan

    def __len__(self) -> int:
        """Batches of this epoch; for online methods the most that there can be."""
        return self._stream.length(self.epoch, self.plan)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._batches()
        self._iterator = weakref.ref(iterator)
        return iterator

    def end_epoch(self) -> None:
        """End the running epoch for a loop that stops after ``len(loader)`` batches, as that of Lightning's Trainer.

        As a ``for`` loop's end: losses are refreshed, the ranks' facts joined. On all ranks, while the iterator exists.
        """
        if self._reduced and getattr(self._iterator(), "gi_suspended", False):
            next(self._iterator(), None)
        if self._reduced:  # there was another batch
            self._end_epoch()

    def _batches(self) -> Iterator[Any]:
        if self._reduced:  # the last epoch was left early
            self._end_epoch()
        elif self._at_start:  # a look at some batches without training on them: as if it had not been
            self.selector.load_state_dict(self._at_start[0])
            self._open.indices = self._at_start[1]
        begun = self._start_epoch()
        batches_given = 0
        for request, data in self._loaded():
            if batches_given == 1 and "loss" in self.selector.needs and not self._reduced:
                raise RuntimeError(
                    f"{type(self.selector).__name__} needs the losses of each batch: compute the training loss as "
                    'loader.reduce(F.cross_entropy(model(x), y, reduction="none")).'
                )
            self._position = request.position
            if request.kind == "refresh":
                self._scoring(self.epoch, request.indices, request.of, self._open.collated(data))
                continue
            if request.kind == "train":
                batches_given += 1
                yield self._hand_out(request.indices, request.of, data)
                continue
            self._open.keep(*self._choose(request, data), data)
            while given := self._stream.pop():
                batches_given += 1
                yield self._hand_out_open(*given)
        for given in self._stream.leftover():
            batches_given += 1
            yield self._hand_out_open(*given)
        if not batches_given and not begun:
            who = type(self.selector).__name__
            warnings.warn(f"Epoch {self.epoch}: {who} kept too few samples for a single batch.", stacklevel=2)
        self._end_epoch()

    def reduce(
        self, losses: Tensor, logits: Tensor | None = None, targets: Tensor | None = None, *, indices: Any = None
    ) -> Tensor:
        """The training loss of the batch handed out last: records, weighs and averages.

        A loop that fetches ahead, or cuts a batch up, says whose losses they are: ``reduce(losses, indices=ids)``, with
        ``ids`` what ``loader.indices`` was when the batch was fetched, or a part of it. A presentation counts once:
        what is told of a sample again (two heads, SAM, L-BFGS) is weighed and averaged, and not recorded.

        With a GradScaler: ``scaler.scale(loader.reduce(losses)).backward()``, so that what is recorded is not scaled.
        With gradients accumulated over k batches: ``(loader.reduce(losses) / k).backward()``; batches of other sizes
        count the same, as in plain PyTorch. Call it outside of what is compiled: it takes notes, which breaks graphs.

        Args:
            losses: (B,) one loss a sample, with gradient, of any floating type. A loss function's class weights act on
                each sample's loss; unlike its own mean, the mean here does not divide by their sum.
            logits: (B, C) class scores, for methods that need correctness or confidence.
            targets: (B,) class labels, likewise.
            indices: (B,) whose losses they are; by default those of the batch handed out last.

        Returns:
            The mean of weight times loss, a scalar to call ``backward`` on, in float32 or float64. Without weights it
            is ``losses.mean()``, in their own type.

        Raises:
            ValueError, TypeError: not one loss a sample, or something that the selector needs is missing.
            RuntimeError: earlier batches wait for their losses, and ``indices`` do not say whose these are.
            FloatingPointError: a NaN or infinite loss, unless ``wrap(nonfinite=...)`` says otherwise.
        """
        places = self._presented.of_newest() if indices is None else self._presented.of(indices)
        loss = self._training_loss(places, losses, logits, targets)
        places.mark()
        self._reduced = True
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here: selector, ledger, open batch, position, the DataLoader's generator.

        Between epochs or within one. Within one, call it after the training step: the batch handed out last counts as
        trained on. The samples of an open batch are named, not held: going on reads them again. A shuffling without a
        generator of its own draws from torch's global one, which is the user's to save.
        """
        return state.save(self)

    def load_state_dict(self, given: dict[str, Any]) -> None:
        """Go on from ``state_dict``, with a loader made in the same way. The next iteration goes on in that epoch."""
        state.load(self, given)

    def _start_epoch(self) -> bool:
        """Get everything ready for the epoch's first batch, or the next one of a resumed epoch; True for the latter."""
        check_ranks(self._user, self.ranks)
        self._plan = plan = agreed_plan(self.plan, self.ranks)
        self._weights = None
        if plan.weights is not None:
            weights = torch.ones(self._run.size, dtype=torch.float32)
            self._weights = weights.index_copy_(0, plan.indices, plan.weights.float())
        self._at_start = self.selector.state_dict(), self._open.indices
        self._draws = dataloader.draws(self._user)
        running = self._resumed["running"] if self._resumed else None
        course, held = (Course(**running["course"]), running["held"]) if running else (None, None)
        self._stream.start(self.epoch, plan, course, held)
        self._position = running["position"] if running else 0.0
        self._iteration += 1
        for callback in self._at_epoch_start:
            callback()
        return running is not None

    def _source(self) -> Iterator[Any]:
        """The inner iterator. That of a resumed epoch draws no seed for its workers: the epoch had drawn it before."""
        if self._resumed is None:
            return iter(self._inner)
        with torch.random.fork_rng([]):
            source = iter(self._inner)
        dataloader.set_draws(self._user, self._resumed["generators"])
        return source

    def _end_epoch(self) -> None:
        if self._plan is not None and self._plan.lr_factor != 1 and not self._rate_is_followed:
            warnings.warn(
                f"{type(self.selector).__name__} asks for {self._plan.lr_factor:.3g} times the learning rate in epoch "
                f"{self.epoch}, and nothing follows it. Use leantrain.ProgressLR, or multiply by loader.lr_factor.",
                stacklevel=3,
            )
            self._rate_is_followed = True  # said once
        self._stream.close()
        self._exchange.flush(self.epoch)
        self.selector.end_epoch(self.epoch)
        self.epoch += 1
        self._at_start = self._resumed = None
        self._plan, self._position, self._reduced = None, 0.0, False

    def _loaded(self) -> Iterator[tuple[Request, Any]]:
        """Each request of the epoch with its data, as the workers deliver them."""
        source, mine = self._source(), self._iteration
        while True:
            if mine != self._iteration:
                raise RuntimeError("A newer iterator over this loader was made; only the newest one goes on.")
            start, deciding = time.perf_counter(), self.stats.select_seconds
            try:
                data = next(source)
            except StopIteration:
                return
            except Exception as error:
                self._reading.explain(error, self._stream.requests, source)
                del source  # its workers end now
                raise
            request = self._stream.deal_with_next()
            waited = time.perf_counter() - start - (self.stats.select_seconds - deciding)
            self.stats.fetch_cost.append(waited / len(request.indices))
            request, data = self._reading.through(self.epoch, request, data)
            self.stats.loaded += request.of
            if len(request.indices):
                yield request, data

    def _choose(self, request: Request, data: Any) -> tuple[list[Tensor], Tensor]:
        """What of a batch is kept: its parts on all ranks, and (K,) positions within them. All decide on all losses."""
        parts = self._reading.parts(request)
        whole = torch.cat(parts)
        kept = torch.arange(len(whole))
        if request.kind == "score":
            losses = self._scoring(self.epoch, request.indices, len(whole), self._open.collated(data))
            losses = torch.cat(self.ranks.gather(losses))
            kept = losses.isfinite().nonzero().flatten()
            kept = kept[self._stream.select(request.number, whole[kept], losses[kept])]
        return parts, kept

    def _hand_out_open(self, parts: list[Tensor], data: Any) -> Any:
        indices = parts[self.ranks.rank]
        if data is None:  # another rank may have read them
            data = dataloader.read(self._inner, indices)
        return self._hand_out(indices, sum(map(len, parts)), data)

    def _hand_out(self, indices: Tensor, of: int, data: Any) -> Any:
        batch = self._open.collated(data)
        weights = None if self._weights is None else self._weights[indices]
        self._presented.add(Presented(self._iteration, self.epoch, indices, of, weights))
        pin = self._samples and self._user.pin_memory and torch.cuda.is_available()
        return nested_batch.pin(batch) if pin else batch
