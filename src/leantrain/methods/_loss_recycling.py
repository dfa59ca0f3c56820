"""Judging by losses that training steps gave anyway, instead of a scoring pass. M = samples of the pool."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from leantrain.core.plan import Batch, Plan
from leantrain.core.selector import Selector
from leantrain.rng import generator
from leantrain.utils.validation import Count, CountOrZero


@dataclass(kw_only=True, eq=False)
class Recycling(Selector):
    """Base of online methods that can also decide a whole epoch before it, with ``score="recycle"``.

    The pool is then judged batch by batch in a random order, by ``select`` as ever, on the last loss that is known of
    each sample: of the training step that used it last, or of a refresh. Nothing is loaded to be rejected. A sample of
    which no loss is known, or one too old, is trained on, so the first epoch trains on everything.

    Args:
        score: ``"pass"`` scores the samples of each batch without gradient; ``"recycle"`` does without, as above.
        max_age: with ``"recycle"``, for how many epochs after the one it was seen in a loss counts.
        refresh: what becomes, with ``"recycle"``, of samples whose loss comes to be too old. ``"score"``: a scoring
            pass over them at the epoch's end, 1 unit each, after which they are judged like all others. ``"train"``:
            the next epoch trains on them, 3 units each; this needs no scoring function, and adds to the choice.

    Cost with ``"recycle"``: where a share k is kept, 3 k + r units a sample, where r is the share refreshed, at most
    (1 - k) / max_age; three times that r with ``refresh="train"``.

    A recycled loss was taken with the weights, the augmentation and the dropout of its step, so it is older and noisier
    than that of a scoring pass; a refreshed one was taken in eval mode at the end of its epoch.
    """

    score: Literal["pass", "recycle"] = "pass"
    max_age: Count = 4
    refresh: Literal["score", "train"] = "score"
    start_epoch: CountOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score == "recycle":
            needs = {"loss", "score"} if self.refresh == "score" else {"loss"}
            self.needs = frozenset(needs)  # pyright: ignore[reportAttributeAccessIssue]

    def loss_age(self, epoch: int) -> int | None:
        return None if self.score == "recycle" or epoch < self.start_epoch else 1

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if self.score == "pass" or epoch < self.start_epoch:
            return Plan(pool)
        ledger = self.run.ledger
        seen = ledger.loss_epoch[pool].long()
        used = (seen < 0) | (epoch - seen > self.max_age)
        known = (~used).nonzero().flatten()
        rng = generator(self.run.seed, epoch, "recycle")
        known = known[torch.randperm(len(known), generator=rng)]  # the history is of the last batches: let them mix
        for number, chunk in enumerate(known.split(self.run.batch_size * self.scoring_batches)):
            if len(chunk):
                indices = pool[chunk]
                used[chunk[self.select(Batch(epoch, number, indices, ledger.loss[indices]))]] = True
        ends = self.run.epochs is not None and epoch + 1 >= self.run.epochs
        if self.refresh == "train" or ends:
            return Plan(pool[used])
        old = pool[~used & (epoch + 1 - seen > self.max_age)].unique()
        return Plan(pool[used], refresh=old if len(old) else None)
