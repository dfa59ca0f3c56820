"""What must be known of samples, whatever loop trains on them: a plain model that is told what the loop really did.

Samples are numbers from 0, losses and weights plain floats. An epoch is the number of a pass that trains.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

NEVER = -1


@dataclass(eq=False)
class Presented:
    """A batch that the loop was given: of which pass, whose samples, with which weights."""

    epoch: int
    samples: list[int]
    weights: list[float]
    told: set[int] = field(default_factory=set)  # places


class Known:
    """The last loss of each of ``size`` samples, and how often it was trained on."""

    def __init__(self, size: int) -> None:
        self.loss, self.score = [math.nan] * size, [math.nan] * size
        self.loss_epoch, self.score_epoch, self.trained_epoch = [NEVER] * size, [NEVER] * size, [NEVER] * size
        self.trained = [0] * size
        self.steps = 0

    def scored(self, epoch: int, samples: list[int], losses: list[float]) -> None:
        """A pass that only looks."""
        for sample, loss in zip(samples, losses, strict=True):
            self.loss[sample] = self.score[sample] = loss
            self.loss_epoch[sample] = self.score_epoch[sample] = epoch

    def told(self, batch: Presented, places: list[int], losses: list[float]) -> tuple[float, list[float]]:
        """A training step on these of the batch's samples, each once: what the step's loss is, and its gradient."""
        self.steps += not batch.told
        for place, loss in zip(places, losses, strict=True):
            if place not in batch.told:
                sample = batch.samples[place]
                self.loss[sample], self.loss_epoch[sample] = loss, batch.epoch
                self.trained[sample] += 1
                self.trained_epoch[sample] = batch.epoch
        batch.told |= set(places)
        weights = [batch.weights[place] for place in places]
        mean = math.fsum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / len(places)
        return mean, [weight / len(places) for weight in weights]


def filtered(
    drawn: list[list[int]], planned: set[int], size: int | None, drop_last: bool, share: float, left_out: bool
) -> tuple[list[list[int]], int]:
    """The batches of a pass that trains on ``planned`` of the samples ``drawn``, and how many samples it goes through.

    Batches of ``size`` are filled up again; without it they have a meaning of their own and only lose samples. A last
    batch of one sample joins the one before where a method ``left_out`` some: it could not be helped by the user.
    """
    kept = [[sample for sample in batch if sample in planned] for batch in drawn]
    whole = [sample for batch in kept for sample in batch]
    whole = whole[: math.ceil(share * len(whole) - 1e-6)]
    if size is None:
        batches, left = [], len(whole)
        for batch in kept:
            batches.append(batch[:left])
            left -= len(batches[-1])
        return [batch for batch in batches if batch], len(whole)
    batches = [whole[start : start + size] for start in range(0, len(whole), size)]
    if drop_last:
        batches = [batch for batch in batches if len(batch) == size]
    elif left_out and len(batches) > 1 and len(batches[-1]) < 2:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches, len(whole)


def cut(order: list[int], sizes: list[int]) -> list[list[int]]:
    """``order`` in pieces of these sizes."""
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [order[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def within(few: list[int], many: list[int]) -> bool:
    """Whether ``many`` holds each of ``few``, as often at least."""
    return Counter(few) <= Counter(many)
