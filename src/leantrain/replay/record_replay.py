"""Cached replay: write down what a selector chose in each epoch of a run, and use it again in later ones.

N = size of the data set, M = samples of an epoch.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.core.selector import Chain, Selector
from leantrain.core.selector_wrapper import Around
from leantrain.replay import parquet_parts
from leantrain.rng import generator

OTHERWISE = "Record to another folder, or replace this one's recording: Record(..., overwrite=True)."


@dataclass(eq=False)
class Record(Around):
    """Trains as ``selector`` says and writes down what that was, one Parquet file an epoch.

    An epoch is written when it ends, whole or not at all, so a run that is killed leaves the epochs that it finished.
    Written is what the ledger says was trained on, with the weights of the plan and in its order or that of the choice.
    So a sample that an online method kept and that waited for the next epoch stands in that one. Where the loop tells
    no losses, that is what was planned or kept.

    Args:
        selector: what to record: any selector, a composition too.
        path: the folder of the recording, made when the first epoch ends.
        overwrite: whether a new run may replace the recording that the folder holds. False refuses it before the
            training starts. A run that goes on from its ``state_dict`` needs no permission: it goes on in the folder
            of its own recording and replaces the epochs from there on.

    Cost: that of ``selector``, and one small file an epoch. Needs pyarrow: pip install "leantrain[train]".
    """

    path: str | Path
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folder = _folder(self.path)
        parquet_parts.need_parquet()  # a missing package must show now, not when the first epoch ends

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._plan: Plan | None = None  # of the running epoch
        self._kept: list[tuple[int, Tensor]] = []  # of its batches: number and what was kept
        self._before: Tensor | None = None  # (N,) how often each sample was trained on when it was planned
        self._waiting = torch.empty(0, dtype=torch.int64)  # kept and not trained on yet
        self._begun = self._resumed = False
        settings = json.dumps(self.selector.settings(), default=lambda value: type(value).__name__)
        facts = run.fingerprint, run.size, run.seed, _method(self.selector), json.loads(settings)
        self._facts = dict(zip(parquet_parts.SAME, facts, strict=True))
        if run.writes and not self.overwrite:
            self._check_same(parquet_parts.parts(self._folder))

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if self.run.writes and not self._begun:
            self._begin(epoch)
        self._plan, self._before = self.selector.plan(epoch, pool), self.run.ledger.trained.clone()
        return self._plan

    def pass_over(self, epoch: int, number: int, indices: Tensor) -> None:
        super().pass_over(epoch, number, indices)
        self._kept.append((number, indices))

    def select(self, batch: Batch) -> Tensor:
        positions = self.selector.select(batch)
        self._kept.append((batch.number, batch.indices[positions]))
        return positions

    def end_epoch(self, epoch: int) -> None:
        assert self._plan is not None, "an epoch ended that was not planned"
        plan = self._trained(epoch, self._plan if self.loss_age(epoch) is None else self._chosen(self._plan))
        super().end_epoch(epoch)
        self._plan, self._kept, self._before = None, [], None
        if not self.run.writes:
            return
        for number, part in parquet_parts.parts(self._folder).items():
            if number >= epoch:  # of the run that this one replaces
                part.unlink(missing_ok=True)
        header = self._facts | {"epoch": epoch, "epochs": self.run.epochs, "lr_factor": float(plan.lr_factor)}
        header |= {"view": asdict(plan.view)} if plan.view else {}
        parquet_parts.write(self._folder / parquet_parts.name(epoch), header, plan)

    def _trained(self, epoch: int, chosen: Plan) -> Plan:
        """What was trained on of ``chosen`` and of what waited; all of it if the loop tells nothing."""
        now = self.run.ledger.trained
        counts = torch.zeros_like(now) if self._before is None else now - self._before
        if not bool(counts.any()):
            return chosen
        assert self._plan is not None
        queue = torch.cat([self._waiting, chosen.indices])
        taken = first_of_each(queue, counts)
        online, waited = self.loss_age(epoch) is not None, len(self._waiting)
        # The open batch holds fewer than a batch; what else is left was dropped.
        self._waiting = queue[~taken][-self.run.batch_size :] if online else queue[:0]
        unknown = counts.long() - torch.bincount(queue[taken], minlength=len(counts))  # a sampler that repeats, say
        ahead = torch.cat([torch.arange(len(counts)).repeat_interleave(unknown), queue[:waited][taken[:waited]]])
        found = _within(chosen, taken[waited:])
        indices, sizes = torch.cat([ahead, found.indices]), found.batch_sizes
        if sizes is not None:
            sizes = (*[len(ahead)][: len(ahead)], *sizes)
        weights = weights_at(self._plan, indices, self.run.size)
        made = replace(chosen, indices=indices, weights=weights, batch_sizes=sizes, refresh=None)
        if sizes is None and not online and made.repeats and not self._plan.repeats:
            # Then the order will hold in a replay. The real one is unknown; let it not be the data set's.
            order = torch.randperm(len(indices), generator=generator(self.run.seed, epoch, "record"))
            weights = None if made.weights is None else made.weights[order]
            made = replace(made, indices=indices[order], weights=weights)
        return made

    def _chosen(self, plan: Plan) -> Plan:
        """What was kept of ``plan``."""
        # In the batches' order: with workers, those passed over are told of ahead of those that wait for their scores.
        kept = [indices for _, indices in sorted(self._kept, key=lambda item: item[0])]
        indices = torch.cat([plan.indices[:0], *kept])
        return replace(plan, indices=indices, weights=weights_at(plan, indices, self.run.size), batch_sizes=None)

    def _begin(self, epoch: int) -> None:
        """Refuse a folder whose recording this run would mix with its own."""
        found = parquet_parts.parts(self._folder)
        if found and not (self._resumed or self.overwrite):
            raise ValueError(
                f"{self._folder} holds {len(found)} epochs of a recording with the same settings. To go on with that "
                f"run, load its state_dict before the first epoch. {OTHERWISE}"
            )
        missing = [number for number in range(epoch) if number not in found]
        if missing:
            raise ValueError(
                f"This run goes on at epoch {epoch}, but {self._folder} lacks epoch {missing[0]}. Give the folder that "
                "the run recorded to before; a recording cannot start in the middle."
            )
        self._check_same({number: found[number] for number in range(epoch)})
        self._begun = True

    def _check_same(self, parts: dict[int, Path]) -> None:
        for part in parts.values():
            header = parquet_parts.read_header(part)
            for fact, mine in self._facts.items():
                if header[fact] != mine:
                    raise ValueError(
                        f"{part} belongs to another recording: its {fact} is {header[fact]!r}, this run's is {mine!r}. "
                        + OTHERWISE
                    )

    def state_dict(self) -> dict[str, Any]:
        own = {"plan": self._plan and self._plan.state_dict(), "kept": list(self._kept), "waiting": self._waiting}
        return super().state_dict() | own | ({} if self._before is None else {"before": self._before})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        plan = state["plan"]
        self._plan = Plan(*plan) if isinstance(plan, list | tuple) else plan and Plan.of(plan)  # a tuple: an older one
        self._kept = list(state["kept"])
        self._before = state.get("before")  # older states lack it
        self._waiting = state.get("waiting", self._waiting[:0])
        self._begun, self._resumed = False, True


@dataclass(kw_only=True, eq=False)
class Replay(Selector):
    """Trains on what ``Record`` wrote down: its samples, weights, batches and learning rate factors.

    Nothing is scored and no loss is asked for, so model, optimizer and learning rate may be others than those of the
    recorded run; the data set may not. What an online method kept in an epoch is trained on as that epoch's plan: in
    the order of the user's sampler, in batches of the user's size.

    Args:
        path: the folder of the recording.
        wrap_around: whether a longer run starts the recording over. False refuses it.

    Cost: 3 units a sample used. The start reads the whole recording once, epoch by epoch, to see that nothing of it is
    damaged. Needs pyarrow: pip install "leantrain[train]".

    Source: Cai, Duan and Agarwal, "Faster Training by Automatically Selecting the Best Training Data for Computer
    Vision Tasks", 2022 (slides): Cached-Grad-Match. Differs from the source: any method can be recorded, not Grad-Match
    alone, and another data set is refused.
    """

    path: str | Path
    wrap_around: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._folder = _folder(self.path)

    def setup(self, run: Run) -> None:
        super().setup(run)
        parts = self._parts()
        needed = len(parts) if run.epochs is None else math.ceil(run.epochs)
        if needed > len(parts) and not self.wrap_around:
            raise self._too_short(f"this run has {run.epochs:g}")
        first = parquet_parts.read_header(parts[0])
        theirs, mine = first["fingerprint"], run.fingerprint
        if first["size"] != run.size or (theirs and mine and theirs != mine):
            raise ValueError(
                f"{self._folder} was recorded on another data set: {first['size']} samples, fingerprint "
                f"{theirs[:12]!r}. This one has {run.size}, fingerprint {mine[:12]!r}. Record a run on this one."
            )
        for epoch, part in parts.items():
            header = parquet_parts.read_header(part)
            for fact in parquet_parts.SAME:
                if header[fact] != first[fact]:
                    raise ValueError(f"{part} belongs to another recording than {parts[0].name}: {fact} differs.")
            if epoch < needed and len(parquet_parts.read(part).indices) == 0:
                raise ValueError(f"{part}: no sample was kept in epoch {epoch}, so there is nothing to train on.")

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        parts = self._parts()
        if epoch >= len(parts) and not self.wrap_around:
            raise self._too_short(f"this run goes on to epoch {epoch}, counted from 0")
        plan = parquet_parts.read(parts[epoch % len(parts)])
        if int(plan.indices.max()) >= self.run.size:
            raise ValueError(f"{self._folder} changed during the run and names samples beyond {self.run.size}.")
        allowed = torch.zeros(self.run.size, dtype=torch.bool)
        allowed[pool] = True
        plan = _within(plan, allowed[plan.indices])
        if plan.batch_sizes is None and plan.repeats and bool((plan.indices.diff() >= 0).all()):
            # Of a version whose draws were sorted: in that order, which would hold, a batch might have one class only.
            order = torch.randperm(len(plan.indices), generator=generator(self.run.seed, epoch, "replay"))
            weights = None if plan.weights is None else plan.weights[order]
            plan = replace(plan, indices=plan.indices[order], weights=weights)
        return plan

    def settings(self) -> dict[str, Any]:
        """What was recorded, rather than where: a path means nothing on another machine."""
        parts = self._parts()
        header = parquet_parts.read_header(parts[0])
        recorded = {"method": header["method"], "settings": header["settings"], "recorded_epochs": len(parts)}
        return recorded | {"wrap_around": self.wrap_around}

    def _parts(self) -> dict[int, Path]:
        parts = parquet_parts.parts(self._folder)
        if not parts:
            raise ValueError(f"{self._folder} holds no recording. Make one: wrap(loader, Record(selector, path), ...).")
        missing = set(range(len(parts))) - set(parts)
        if missing:
            raise ValueError(f"The recording in {self._folder} lacks epoch {min(missing)}, but has later ones.")
        return parts

    def _too_short(self, wanted: str) -> ValueError:
        parts = self._parts()
        planned = parquet_parts.read_header(parts[len(parts) - 1])["epochs"]
        cut = f" of {planned:g}, its run was cut short" if planned is not None and planned > len(parts) else ""
        return ValueError(
            f"The recording in {self._folder} holds {len(parts)} epochs{cut}; {wanted}. Train for {len(parts)} epochs, "
            "record a longer run, or start over at its end: Replay(..., wrap_around=True)."
        )


def _within(plan: Plan, allowed: Tensor) -> Plan:
    """The part of ``plan`` that ``allowed`` (M,) bool marks; batches shrink, and empty ones go."""
    if bool(allowed.all()):
        return plan
    sizes = plan.batch_sizes
    if sizes is not None:
        counts = [int(batch.sum()) for batch in allowed.split(list(sizes))]
        sizes = tuple(count for count in counts if count)
    weights = None if plan.weights is None else plan.weights[allowed]
    return replace(plan, indices=plan.indices[allowed], weights=weights, batch_sizes=sizes)


def first_of_each(queue: Tensor, counts: Tensor) -> Tensor:
    """(M,) bool, the first ``counts[i]`` places in ``queue`` (M,) at which i stands, for each i; ``counts`` is (N,)."""
    order = queue.argsort(stable=True)
    ordered = queue[order]
    before = torch.empty_like(queue)  # how often the same one stands further ahead
    before[order] = torch.arange(len(queue)) - torch.searchsorted(ordered, ordered)
    return before < counts[queue]


def weights_at(plan: Plan, indices: Tensor, size: int) -> Tensor | None:
    """(M,) the weights that ``plan`` gives to ``indices`` (M,) of a data set of ``size``, 1 to others; None without."""
    if plan.weights is None:
        return None
    weights = torch.ones(size, dtype=torch.float32)
    return weights.index_copy_(0, plan.indices, plan.weights.float())[indices]


def _method(selector: Selector) -> str:
    if isinstance(selector, Chain):
        return f"{_method(selector.left)} | {_method(selector.right)}"
    return type(selector).__name__


def _folder(path: Any) -> Path:
    if not isinstance(path, str | Path):
        raise TypeError(f"path={path!r} must be a folder, as str or Path, not {type(path).__name__}.")
    return Path(path).expanduser()
