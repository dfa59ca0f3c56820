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
    half_life: float | None = None
    recent: deque = field(init=False)
    seen: deque = field(init=False)  # in which judgement each of recent came
    judgement: int = 0

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=self.history)
        self.seen = deque(maxlen=self.history)

    def judge(self, losses: list[float]) -> tuple[list[int], int]:
        """Candidates (positions within the batch) and how many of them are kept."""
        self.judgement += 1
        for loss in losses:  # step 3
            if math.isfinite(loss):
                self.recent.append(loss)
                self.seen.append(self.judgement)
        weights = [self._weight(seen) for seen in self.seen]
        self.total = math.fsum(weights)

        mean = math.fsum(w * loss for w, loss in zip(weights, self.recent, strict=True)) / self.total  # step 4
        deviations = [w * (loss - mean) ** 2 for w, loss in zip(weights, self.recent, strict=True)]
        std = math.sqrt(math.fsum(deviations) / self.total)
        low, high = mean - self.sigma * std, mean + self.sigma * std
        inside = [h for h, loss in enumerate(self.recent) if low <= loss <= high]

        if not inside:  # nothing is that near the mean: take what is nearest
            inside = [min(range(len(self.recent)), key=lambda h: abs(self.recent[h] - mean))]
        values = [self.recent[h] for h in inside]

        n = len(values)  # step 5
        if self.rule == "sturges":
            bins = math.ceil(math.log2(n)) + 1
        elif self.rule == "sqrt":
            bins = math.ceil(math.sqrt(n))
        else:
            bins = math.ceil(2 * n ** (1 / 3))
        frequencies, edges = np.histogram(values, bins=bins, weights=[weights[h] for h in inside])

        def bin_of(loss: float) -> int | None:
            if not min(values) <= loss <= max(values):
                return None  # step 6: p = 0
            return next(k for k in range(bins) if loss < edges[k + 1] or k == bins - 1)

        chosen, share = self._bins([float(frequency) for frequency in frequencies])
        candidates = [b for b, loss in enumerate(losses) if bin_of(loss) in chosen]  # step 7
        return candidates, math.ceil(share * len(candidates))  # step 8

    def _weight(self, seen: int) -> float:
        return 1.0 if self.half_life is None else 0.5 ** ((self.judgement - seen) / self.half_life)

    def _bins(self, frequencies: list[float]) -> tuple[set[int], Fraction]:
        alpha = Fraction(self.alpha)
        if self.theta == "auto":  # the fullest bins, until they hold enough of all samples to keep keep_ratio
            wanted = Fraction(str(self.keep_ratio)) / alpha
            chosen: set[int] = set()
            held = Fraction(0)
            while held < wanted and len(chosen) < len(frequencies):
                fullest = max((k for k in range(len(frequencies)) if k not in chosen), key=lambda k: frequencies[k])
                chosen.add(fullest)
                held += Fraction(frequencies[fullest]) / Fraction(self.total)
            return chosen, min(alpha, Fraction(str(self.keep_ratio)) / held)
        chosen = {k for k, frequency in enumerate(frequencies) if frequency / sum(frequencies) > self.theta}
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
