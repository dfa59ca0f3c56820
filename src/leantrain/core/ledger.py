"""The ledger: what is known of each sample, as a structure of arrays (32 bytes a sample)."""

import torch
from torch import Tensor

NEVER = -1
MOST = 2**15 - 1  # forgetting events; further ones are not counted


class Ledger:
    """Per-sample facts, indexed by the data set's own index. N is the size of the data set.

    Attributes:
        loss: (N,) float32, the last loss seen, in a training step or a scoring pass; NaN before.
        loss_epoch: (N,) int32, the epoch of ``loss``; -1 before.
        score: (N,) float32, the last loss of a scoring pass (eval mode, no gradient); NaN before, and where the pass
            gave a loss that is not finite.
        score_epoch: (N,) int32, the epoch of ``score``; -1 before.
        correct: (N,) int8, whether the last prediction was right; -1 while unknown.
        confidence: (N,) float32, the last largest softmax probability over classes; NaN while unknown.
        trained_correct: (N,) int8, the same of the last training presentation only.
        forgotten: (N,) int16, forgetting events: right at one training presentation, wrong at the next.
        trained: (N,) int32, how often the sample was trained on.
        trained_epoch: (N,) int32, the last epoch in which it was; -1 before.
        fact_sum, fact_count: (N,) float64 and (N,) int32, sum and number of what ``Selector.observe`` said of it; None
            unless the method observes (``keep_facts``).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.loss = torch.full((size,), torch.nan, dtype=torch.float32)
        self.loss_epoch = torch.full((size,), NEVER, dtype=torch.int32)
        self.score = torch.full((size,), torch.nan, dtype=torch.float32)
        self.score_epoch = torch.full((size,), NEVER, dtype=torch.int32)
        self.correct = torch.full((size,), NEVER, dtype=torch.int8)
        self.confidence = torch.full((size,), torch.nan, dtype=torch.float32)
        self.trained_correct = torch.full((size,), NEVER, dtype=torch.int8)
        self.forgotten = torch.zeros(size, dtype=torch.int16)
        self.trained = torch.zeros(size, dtype=torch.int32)
        self.trained_epoch = torch.full((size,), NEVER, dtype=torch.int32)
        self.fact_sum: Tensor | None = None
        self.fact_count: Tensor | None = None

    def keep_facts(self) -> None:
        """Have room for what a method observes, 12 bytes a sample."""
        self.fact_sum = torch.zeros(self.size, dtype=torch.float64)
        self.fact_count = torch.zeros(self.size, dtype=torch.int32)

    def record_training(
        self,
        epoch: int,
        indices: Tensor,
        losses: Tensor,
        correct: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> None:
        """Take note of one training step on ``indices`` (B,). A loss that is not finite is counted but not kept."""
        self.trained.index_add_(0, indices, torch.ones(len(indices), dtype=torch.int32))
        self.trained_epoch[indices] = epoch
        if correct is not None:
            lapsed = (self.trained_correct[indices] == 1) & ~correct
            forgetful = indices[lapsed]
            self.forgotten.index_add_(0, forgetful, torch.ones(len(forgetful), dtype=torch.int16))
            self.forgotten[forgetful[self.forgotten[forgetful] < 0]] = MOST  # the sum went beyond int16
            self.trained_correct[indices] = correct.to(torch.int8)
        self.record_losses(epoch, indices, losses, correct, confidence)

    def record_scores(
        self,
        epoch: int,
        indices: Tensor,
        losses: Tensor,
        correct: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> None:
        """Take note of one scoring pass over ``indices`` (B,)."""
        self.score[indices] = losses.float().where(losses.isfinite(), torch.nan)
        self.score_epoch[indices] = epoch
        self.record_losses(epoch, indices, losses, correct, confidence)

    def scored_within(self, indices: Tensor, epoch: int, age: int) -> bool:
        """Whether every sample of ``indices`` was scored in the last ``age`` epochs, this one included."""
        taken = self.score_epoch[indices]
        return bool(((taken != NEVER) & (epoch - taken.long() < age)).all())

    def record_losses(
        self,
        epoch: int,
        indices: Tensor,
        losses: Tensor,
        correct: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> None:
        """Take note of losses (B,), and of the predictions they come from, without saying what they were made for."""
        finite = losses.isfinite()
        self.loss[indices[finite]] = losses[finite].float()
        self.loss_epoch[indices[finite]] = epoch
        if correct is not None:
            self.correct[indices] = correct.to(torch.int8)
        if confidence is not None:
            self.confidence[indices] = confidence.float()

    def record_facts(self, indices: Tensor, facts: Tensor) -> None:
        """Add what was observed of ``indices`` (B,), (B,) float32; what is not finite says nothing."""
        if self.fact_sum is None or self.fact_count is None:
            return
        finite = facts.isfinite()
        indices, facts = indices[finite], facts[finite]
        self.fact_sum.index_add_(0, indices, facts.double())
        self.fact_count.index_add_(0, indices, torch.ones(len(indices), dtype=torch.int32))

    def state_dict(self) -> dict[str, Tensor]:
        """All arrays by name."""
        return {name: value.clone() for name, value in vars(self).items() if isinstance(value, Tensor)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the arrays of ``state_dict``, of narrower types too; another data set's size is refused."""
        for name, value in self.state_dict().items():
            if name not in state or state[name].shape != value.shape:
                given = tuple(state[name].shape) if name in state else "nothing"
                raise ValueError(f"Ledger array {name!r} has shape {given}; this data set needs {tuple(value.shape)}.")
            getattr(self, name).copy_(state[name])
