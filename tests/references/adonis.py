"""ADONIS, steps 2 to 9 of spec/METHODS.md (Algorithm 1, Eq. 3-6, Fig. 2-5), sample by sample."""

import math
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np


@dataclass
class Adonis:
    history: int = 512
    rule: str = "sqrt"
    sigma: float = 1.0
    theta: float | str = 0.12
    alpha: str = "1"  # decimal text: ceil(alpha * count) is then exact
    keep_ratio: float = 0.5
    recent: deque = field(init=False)

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=self.history)

    def judge(self, losses: list[float]) -> tuple[list[int], int]:
        """Candidates (positions within the batch) and how many of them are kept."""
        for loss in losses:  # step 3
            if math.isfinite(loss):
                self.recent.append(loss)

        mean = math.fsum(self.recent) / len(self.recent)  # step 4
        std = math.sqrt(math.fsum((loss - mean) ** 2 for loss in self.recent) / len(self.recent))
        values = [loss for loss in self.recent if mean - self.sigma * std <= loss <= mean + self.sigma * std]

        if not values:  # nothing is that near the mean: take what is nearest
            values = [min(self.recent, key=lambda loss: abs(loss - mean))]

        n = len(values)  # step 5
        if self.rule == "sturges":
            bins = math.ceil(math.log2(n)) + 1
        elif self.rule == "sqrt":
            bins = math.ceil(math.sqrt(n))
        else:
            bins = math.ceil(2 * n ** (1 / 3))
        frequencies, edges = np.histogram(values, bins=bins)

        def bin_of(loss: float) -> int | None:
            if not min(values) <= loss <= max(values):
                return None  # step 6: p = 0
            return next(k for k in range(bins) if loss < edges[k + 1] or k == bins - 1)

        chosen, share = self._bins([int(frequency) for frequency in frequencies], n)
        candidates = [b for b, loss in enumerate(losses) if bin_of(loss) in chosen]  # step 7
        return candidates, math.ceil(share * len(candidates))  # step 8

    def _bins(self, frequencies: list[int], n: int) -> tuple[set[int], Fraction]:
        alpha = Fraction(self.alpha)
        if self.theta == "auto":  # the fullest bins, until they hold enough of all samples to keep keep_ratio
            wanted = Fraction(str(self.keep_ratio)) / alpha
            chosen: set[int] = set()
            held = Fraction(0)
            while held < wanted and len(chosen) < len(frequencies):
                fullest = max((k for k in range(len(frequencies)) if k not in chosen), key=lambda k: frequencies[k])
                chosen.add(fullest)
                held += Fraction(frequencies[fullest], len(self.recent))
            return chosen, min(alpha, Fraction(str(self.keep_ratio)) / held)
        chosen = {k for k, frequency in enumerate(frequencies) if frequency / n > self.theta}
        if not chosen:  # ruling: else it would stall for ever
            chosen = {frequencies.index(max(frequencies))}
        return chosen, alpha


def train(
    table: list[list[float]], *, batch_size: int, start_epoch: int, stale_epochs: int, judge: Adonis
) -> list[list[list[int]]]:
    """Training batches of each epoch, samples in sequential order, alpha = 1; ``table[epoch][i]`` is a fresh loss."""
    size, stored, taken = len(table[0]), {}, {}
    open_batch: list[int] = []
    epochs = []
    for epoch in range(len(table)):
        steps = []
        for start in range(0, size, batch_size):
            batch = list(range(start, min(start + batch_size, size)))
            if epoch < start_epoch:  # step 1
                steps.append(batch)
                continue
            for i in batch:  # step 2
                if i not in taken or epoch - taken[i] >= stale_epochs:
                    stored[i], taken[i] = table[epoch][i], epoch
            candidates, _ = judge.judge([stored[i] for i in batch])
            open_batch += [batch[b] for b in candidates]  # step 9
            while len(open_batch) >= batch_size:
                steps.append(open_batch[:batch_size])
                open_batch = open_batch[batch_size:]
        if epoch == len(table) - 1 and open_batch:
            steps.append(open_batch)
        epochs.append(steps)
    return epochs
