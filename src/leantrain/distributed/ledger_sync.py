"""Facts of samples that several ranks train on: noted on each, brought together on all. B = samples of a step.

After ``flush`` the ledger of every rank is what one process would hold that had done the steps of all ranks, in order.
"""

import torch
from torch import Tensor

from leantrain.core.ledger import Ledger
from leantrain.distributed.process_group import Ranks

UNKNOWN = -1
TRAINING, SCORES, LOSSES, UNREAD = range(4)  # a training step, a scoring pass, losses of neither, of none to score


class Exchange:
    """Takes note of facts, for the ledger. With one rank they get there at once.

    All ranks take the same notes, each of its own samples, but for those of samples that could not be read: a note is
    known by its number. One takes 44 bytes a sample.
    """

    def __init__(self, ledger: Ledger, ranks: Ranks) -> None:
        self.ledger, self.ranks = ledger, ranks
        scores = ledger.record_scores
        self._record = ledger.record_training, scores, ledger.record_losses, scores
        self._number = 0
        self._whole: list[Tensor] = []  # (B, 4) int64: index, kind of note, whether correct, epoch
        self._real: list[Tensor] = []  # (B, 3) float32: loss, confidence, what was observed

    def note(
        self,
        kind: int,
        epoch: int,
        indices: Tensor,
        losses: Tensor,
        correct: Tensor | None = None,
        confidence: Tensor | None = None,
        facts: Tensor | None = None,
    ) -> None:
        """Take note of one ``kind`` of fact on ``indices`` (B,); the rest as in ``Ledger``."""
        if self.ranks.count == 1:
            self._record[kind](epoch, indices, losses, correct, confidence)
            if facts is not None:
                self.ledger.record_facts(indices, facts)
            return
        right = torch.full_like(indices, UNKNOWN) if correct is None else correct.long()
        sure = torch.full_like(losses, torch.nan) if confidence is None else confidence.float()
        number = torch.full_like(indices, 8 * self._number + 2 * kind + (correct is not None))
        self._whole.append(torch.stack([indices, number, right, torch.full_like(indices, epoch)], dim=1))
        observed = torch.full_like(losses, torch.nan) if facts is None else facts
        self._real.append(torch.stack([losses, sure, observed], dim=1))
        self._number += kind != UNREAD

    def flush(self) -> None:
        """Bring the notes of all ranks into the ledger of each. Collective."""
        if self.ranks.count == 1:
            return
        whole = self.ranks.gather(torch.cat([torch.empty(0, 4, dtype=torch.int64), *self._whole]))
        real = self.ranks.gather(torch.cat([torch.empty(0, 3, dtype=torch.float32), *self._real]))
        self._whole, self._real, self._number = [], [], 0
        joined, facts = torch.cat(whole), torch.cat(real)
        order = joined[:, 1].argsort(stable=True)  # by number; within one, by rank
        joined, facts = joined[order], facts[order]
        _, counts = joined[:, 1].unique_consecutive(return_counts=True)
        for step, values in zip(joined.split(counts.tolist()), facts.split(counts.tolist()), strict=True):
            indices, number, right, epoch = step.unbind(1)
            losses, sure, observed = values.unbind(1)
            kind, known = divmod(int(number[0]) % 8, 2)
            told = (right == 1, sure) if known else (None, None)
            self._record[kind](int(epoch[0]), indices, losses, *told)
            self.ledger.record_facts(indices, observed)
