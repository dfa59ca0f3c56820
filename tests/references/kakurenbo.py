"""KAKURENBO, the four steps of spec/METHODS.md, sample by sample."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class Known:
    """What is known of a sample; None while unknown."""

    loss: float | None = None
    correct: bool | None = None
    confidence: float | None = None


@dataclass
class Epoch:
    trained: list[int]
    hidden: list[int]
    lr_factor: float


def largest_fraction(epoch: int, epochs: int, fraction: str, *, reduce: bool = True) -> Fraction:
    """F_e of the decimal text F."""
    share = Fraction(epoch, epochs)
    if not reduce or share < Fraction(30, 100):
        return Fraction(fraction)
    if share < Fraction(60, 100):
        return Fraction(fraction) * Fraction(8, 10)
    if share < Fraction(80, 100):
        return Fraction(fraction) * Fraction(6, 10)
    return Fraction(fraction) * Fraction(4, 10)


def hidden(known: dict[int, Known], pool: list[int], share: Fraction, tau: float, *, move_back: bool) -> list[int]:
    """Of ``pool`` the samples left out, ascending."""
    seen = [i for i in pool if known[i].loss is not None]
    candidates = sorted(seen, key=lambda i: known[i].loss)[: math.floor(share * len(pool))]  # step 1
    left_out = []
    for i in candidates:
        sure = known[i].confidence is not None and known[i].confidence >= tau
        if not move_back or (known[i].correct is True and sure):  # step 2
            left_out.append(i)
    return sorted(left_out)


def facts(logits: list[float], label: int) -> Known:
    """Cross-entropy, correctness and largest softmax probability over the classes."""
    total = math.fsum(math.exp(logit) for logit in logits)
    probabilities = [math.exp(logit) / total for logit in logits]
    best = max(range(len(logits)), key=lambda c: logits[c])
    return Known(-math.log(probabilities[label]), best == label, probabilities[best])


@dataclass
class Kakurenbo:
    """A training in which ``logits(mode, epoch, sample)`` is what the model says, ``mode`` "train" or "eval"."""

    pool: list[int]
    labels: list[int]
    logits: Callable[[str, int, int], list[float]]
    epochs: int
    fraction: str = "0.3"
    tau: float = 0.7
    hide: bool = True
    move_back: bool = True
    reduce_fraction: bool = True
    adjust_lr: bool = True
    known: dict[int, Known] = field(default_factory=dict)

    def train(self) -> list[Epoch]:
        self.known = {i: Known() for i in self.pool}
        history = []
        for epoch in range(self.epochs):
            share = largest_fraction(epoch, self.epochs, self.fraction, reduce=self.reduce_fraction)
            if not self.hide:
                share = Fraction(0)
            left_out = hidden(self.known, self.pool, share, self.tau, move_back=self.move_back)
            trained = [i for i in self.pool if i not in left_out]
            really_hidden = Fraction(len(left_out), len(self.pool))
            lr_factor = float(1 / (1 - really_hidden)) if self.adjust_lr else 1.0  # step 3
            for i in trained:
                self.known[i] = facts(self.logits("train", epoch, i), self.labels[i])
            for i in left_out:  # step 4
                self.known[i] = facts(self.logits("eval", epoch, i), self.labels[i])
            history.append(Epoch(trained, left_out, lr_factor))
        return history
