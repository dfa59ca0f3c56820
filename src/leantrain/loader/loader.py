"""The loader: the user's DataLoader, its batches, fewer samples. It plans, loads, scores, selects and records.

N = size of the data set, B = samples of a batch, K = samples kept of it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from leantrain.core import dataset_info
from leantrain.core.ledger import Ledger
from leantrain.core.plan import Plan
from leantrain.core.run import Goal, Run
from leantrain.core.selector import Selector, name_of
from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import Exchange
from leantrain.distributed.plan_sync import check_ranks
from leantrain.distributed.process_group import Ranks
from leantrain.loader import dataloader, state
from leantrain.loader.batch_sampler import SelectionSampler
from leantrain.loader.collate_order import InOrder
from leantrain.loader.epochs import Epochs
from leantrain.loader.open_batch import OpenBatch
from leantrain.loader.unreadable_samples import Reading, Unreadable
from leantrain.loader.user_order import UserOrder
from leantrain.schedule import LengthWatch
from leantrain.scoring.loss_recording import Nonfinite, ScoringPass, TrainingLoss
from leantrain.scoring.loss_shapes import by_sample
from leantrain.scoring.scorer import Scores
from leantrain.utils import validation
from leantrain.utils.sampler_pool import sampler_part


class Loader:
    """Iterates like the DataLoader it wraps; made by ``wrap``.

    Attributes:
        ledger: the per-sample facts.
        selector: the method.
        stats: counts and seconds so far.

    ``batch_sampler``, ``num_workers``, ``drop_last``, ``collate_fn``, ``pin_memory``, ``generator`` and what else a
    DataLoader has are those of the user's.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        selector: Selector,
        *,
        score: Callable[[Any], Tensor | Scores] | None,
        epochs: float | None,
        steps: int | None,
        targets: Any,
        seed: int,
        nonfinite: Nonfinite,
        unreadable: Unreadable,
        goal: Goal | None,
    ) -> None:
        size = dataloader.check_loader(loader)
        self.selector = selector
        self.ranks = Ranks()
        self.ledger = Ledger(size)
        self.stats = Stats()
        self._user = loader
        self._exchange = Exchange(self.ledger, self.ranks)
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
            pool=sampler_part(loader),
            goal=goal,
            dataset=loader.dataset,
        )
        self._lengths = LengthWatch()
        check_ranks(loader, self.ranks)
        order = UserOrder(loader, size, self.ranks)
        self._steps = None if steps is None else validation.integer("steps", steps, least=1)
        if self._steps is not None:
            self._run.epochs = math.ceil(self._steps / order.batches("steps=..."))  # see Epochs.make_plan
        selector.setup(self._run)
        # Only the user's own collate_fn knows how to join samples of two batches, so those are kept as samples.
        collate: Any = loader.collate_fn
        plain = collate is default_collate
        collate = collate if plain else InOrder(collate)
        keeps_samples = "score" in selector.needs and not (plain or getattr(loader.collate_fn, "joinable", False))
        opened = OpenBatch(collate if keeps_samples else None, self.ranks)
        sampler = SelectionSampler(order, opened, selector, self._run, self.stats)
        inner = dataloader.twin(loader, sampler, collate, keep_samples=keeps_samples, tolerant=unreadable == "skip")
        self._epochs = Epochs(
            loader,
            inner,
            selector,
            self._run,
            self.stats,
            sampler,
            Reading(unreadable, loader, self._exchange, self.stats),
            ScoringPass(score, selector, self._exchange, self.stats, strict=nonfinite == "raise"),
            self._exchange,
            pins=keeps_samples and loader.pin_memory and torch.cuda.is_available(),
            steps=self._steps,
        )

    def __getattr__(self, name: str) -> Any:
        """What the user's DataLoader has; frameworks look for it."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._user, name)

    @property
    def epoch(self) -> int:
        """The running epoch, or between epochs the next one.

        An epoch ends when its iterator is exhausted, when a new one gives its first batch after at least one training
        step, or by ``end_epoch``.
        """
        self._epochs.settle()
        return self._epochs.number

    @property
    def sampler(self) -> Any:
        """The user's sampler."""
        return self._epochs.sampler.order.sampler

    @property
    def batch_size(self) -> int | None:
        """The user's batch size."""
        return self._epochs.sampler.order.batch_size

    @property
    def indices(self) -> Tensor:
        """(B,) int64 data set indices of the batch handed out last."""
        newest = self._epochs.presented.newest
        if newest is None:
            raise RuntimeError("No batch was handed out yet: iterate over the loader first.")
        self._epochs.asked = True
        return newest.indices

    @property
    def progress(self) -> float:
        """Share of the training done, 0 to 1, the batch handed out last included. Needs ``epochs`` or ``steps``."""
        plan, done = self._epochs.plan, self._epochs.done
        if plan and plan.view:
            done = plan.view.done(self._epochs.position)
        if done is not None:  # by work, which is not the same in each epoch
            return done
        if self._steps is not None:
            return min(1.0, self._epochs.steps_begun / self._steps)
        epochs, epoch = self._run.need_epochs("progress"), self._epochs.number
        share = min(1.0, max(0.0, epochs - epoch))  # a last epoch may be cut short
        return min(1.0, (epoch + share * self._epochs.position) / epochs)

    @property
    def pixels(self) -> float:
        """Share of its pixels that ``view`` left of the batch handed out last."""
        newest = self._epochs.presented.newest
        return 1.0 if newest is None else newest.pixels

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate that the method asks for in the running epoch; 1 between epochs."""
        self._epochs.rate_is_followed = True
        return 1.0 if self._epochs.plan is None else self._epochs.plan.lr_factor

    @property
    def last_loss(self) -> float:
        """The unweighted mean of the losses told last, to be logged; NaN before."""
        last = self._training_loss.last
        return math.nan if last is None else float(last.mean())

    def view(self, batch: Any) -> Any:
        """``batch`` as the method wants it seen now: ``x = loader.view(x)``, before ``model(x)``.

        Args:
            batch: images, (B, C, H, W) of any type, or a nesting of tensors as ``default_collate`` makes them, of which
                the images alone are changed.

        Returns:
            The same, or smaller images where the method says so (``InputSize``); on the device of the batch, of its
            type. The full size is the batch itself.

        Raises:
            TypeError: the method makes images smaller, and there is none in the batch.
        """
        epochs = self._epochs
        if epochs.plan is None or epochs.plan.view is None:
            return batch
        made, pixels = epochs.plan.view.of(batch, epochs.position)
        epochs.viewed = True
        if epochs.presented.newest:
            epochs.presented.newest.pixels = pixels
        return made

    def at_epoch_start(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called whenever an epoch is planned, before its first batch is loaded."""
        self._epochs.callbacks.append(callback)

    @property
    def plan(self) -> Plan:
        """The plan of the running epoch, or between epochs of the next one.

        Raises:
            RuntimeError: between epochs, where only drawing tells what a sampler of the user's own gives.
        """
        if self._epochs.plan is not None:
            return self._epochs.plan
        self._epochs.settle()
        pool = self._epochs.sampler.order.pool()
        if pool is None:
            raise RuntimeError(
                f"The plan of epoch {self.epoch} is made once its first batch is asked for: only then is known what "
                f"{type(self.sampler).__name__} gives."
            )
        return self._epochs.make_plan(pool)

    def __len__(self) -> int:
        """Batches of this epoch; the most that there can be for online methods, batch samplers of one's own, and
        samplers that draw with repeats or only a part."""
        self._epochs.settle()
        sampler = self._epochs.sampler
        own = not sampler.order.plain or (self._epochs.plan is None and sampler.order.pool() is None)
        length = sampler.own_length(self.epoch) if own else sampler.length(self.epoch, self.plan)
        return self._lengths.told(self.epoch, length)

    def __iter__(self) -> Iterator[Any]:
        return self._epochs.iterate()

    def __repr__(self) -> str:
        total = "" if self._run.epochs is None else f" of {self._run.epochs:g}"
        plan = self._epochs.plan
        kept = "" if plan is None else f", {len(plan.indices) / self._epochs.sampler.pool_size:.0%} planned"
        return f"Loader({name_of(self.selector)}, epoch {self._epochs.number}{total}{kept}, {self._run.size:,} samples)"

    def end_epoch(self) -> None:
        """End the running epoch for a loop that stops after ``len(loader)`` batches, as that of Lightning's Trainer.

        As a ``for`` loop's end: losses are refreshed, the ranks' facts joined. On all ranks, while the iterator exists.
        """
        self._epochs.end()

    def reduce(
        self,
        losses: Tensor | Mapping[str, Tensor],
        logits: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        indices: Any = None,
        weights: Mapping[str, Any] | None = None,
        mask: Tensor | None = None,
        sample_ids: Tensor | None = None,
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
                each sample's loss; unlike its own mean, the mean here does not divide by their sum. Of other shapes
                with ``mask`` or ``sample_ids``. Or a dict of such, terms that are added up.
            logits: (B, C) class scores, for methods that need them, or correctness or confidence.
            targets: (B,) class labels, likewise.
            indices: (B,) whose losses they are; by default those of the batch handed out last.
            weights: factors of a dict's terms by name; 1 where none is given. A sample's weight comes on top.
            mask: bool or 0 and 1, of the losses' shape (B, ...): what counts of tokens (B, T) or pixels (B, H, W), for
                example ``targets != ignore_index``. A sample's loss, as it is recorded, is the mean over what counts
                of it, 0 if nothing does.
            sample_ids: integers of the losses' shape, for rows into which samples are packed: to which sample of the
                batch, from 0 in the order of ``indices``, each of the losses belongs; negative for padding.

        Returns:
            The mean of weight times loss, a scalar to call ``backward`` on, in float32 or float64. Without weights it
            is ``losses.mean()``, in their own type. With ``mask`` or ``sample_ids`` the mean over all that counts in
            the batch, each with its sample's weight, so that long samples count for more: without weights
            ``losses[mask].mean()``, the usual loss of tokens. For one in which samples count the same:
            ``reduce(leantrain.per_sample(losses, mask=mask))``.

        Raises:
            ValueError, TypeError: not one loss a sample, or something that the selector needs is missing.
            RuntimeError: earlier batches wait for their losses, and ``indices`` do not say whose these are; or the
                method makes inputs smaller and ``view`` was not asked for.
            FloatingPointError: a NaN or infinite loss, unless ``wrap(nonfinite=...)`` says otherwise.
        """
        presented, plan = self._epochs.presented, self._epochs.plan
        if plan and plan.view and not self._epochs.viewed:
            raise RuntimeError(
                f"{name_of(self.selector)} trains on smaller inputs first, and the loop did not ask for them: "
                "x = loader.view(x) before model(x)."
            )
        places = presented.of_newest() if indices is None else presented.of(indices)
        told: Any = losses
        if isinstance(losses, Mapping) or weights is not None or mask is not None or sample_ids is not None:
            told = by_sample(losses, len(places.indices), weights=weights, mask=mask, sample_ids=sample_ids)
        loss = self._training_loss(places, told, logits, targets)
        places.mark(loss.requires_grad)
        if places.epoch > self._lengths.epoch:
            taken = self.stats.steps - places.steps
            following = self._following(taken) if places.epoch == 1 else None
            self._lengths.begins(places.epoch, None if self._steps else self._run.epochs, taken, following)
        self._epochs.tell(places)
        return loss

    def _following(self, taken: int) -> int | None:
        """Steps of the running epoch: by its plan, or where batches are chosen as they come ``taken`` as by the first.

        None where ``ProgressLR`` follows the epochs, however long they are.
        """
        sampler, plan, epoch = self._epochs.sampler, self._epochs.plan, self._epochs.number
        if self._epochs.callbacks:
            return None
        planned = plan is not None and sampler.order.plain and sampler.course and sampler.course.mode == "all"
        return sampler.length(epoch, plan) if planned else taken  # pyright: ignore[reportArgumentType]

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here: selector, ledger, open batch, position, the DataLoader's generator.

        Between epochs or within one. Within one, call it after the training step: the batch handed out last counts as
        trained on. The samples of an open batch are named, not held: going on reads them again. A shuffling without a
        generator of its own draws from torch's global one, which is the user's to save.
        """
        return state.save(self._epochs)

    def load_state_dict(self, given: dict[str, Any]) -> None:
        """Go on from ``state_dict``, with a loader made in the same way. The next iteration goes on in that epoch."""
        state.load(self._epochs, given)
