"""Label guard, by its description, sample by sample: scores, the share of wrong labels, each sample's probability."""

import math
from collections import Counter

LOWEST, HIGHEST, BINS, SUREST = 0.15, 0.9, 12, 0.98


def probes(size: int) -> int:
    """How many of ``size`` samples carry a wrong label."""
    return math.floor(min(max(100, size / 100), size / 25))


def shares(labels: list[int]) -> dict[int, float]:
    return {label: count / len(labels) for label, count in Counter(labels).items()}


def fit(logits: list[float], label: int, shares: dict[int, float]) -> float:
    """log softmax(z - log p)_y: softmax(z) with each class's part divided by its share."""
    parts = {c: math.exp(z) / shares[c] for c, z in enumerate(logits) if c in shares}
    return math.log(parts[label] / math.fsum(parts.values())) if label in parts else math.nan


def cross_entropy(logits: list[float], label: int) -> float:
    return -logits[label] + math.log(math.fsum(map(math.exp, logits)))


def share_of_wrong(probes: list[float], rest: list[float]) -> float | None:
    """The least F_rest(t) / F_probe(t), t being any score at all."""

    def at_most(values: list[float], t: float) -> float:
        return sum(value <= t for value in values) / len(values)

    if not probes or not rest:
        return None
    found = [at_most(rest, t) / at_most(probes, t) for t in [*probes, *rest] if LOWEST <= at_most(probes, t) <= HIGHEST]
    return min([1.0, *found]) if found else None


def doubts(scores: list[float], probes: list[float], rest: list[float], share: float) -> list[float]:
    """P(wrong) of each of ``scores``, bin by bin of the probes' quantiles."""
    ordered, edges = sorted(probes), []
    for number in range(1, BINS):
        place = number / BINS * (len(ordered) - 1)  # linear between the two nearest
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        edges.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))

    def bin_of(score: float) -> int:
        return sum(score > edge for edge in edges)

    doubt: list[float] = []
    for number in range(BINS):
        there = sum(bin_of(score) == number for score in rest) / len(rest)
        wrong = share / BINS / there if there else (1.0 if share else 0.0)
        doubt.append(min([SUREST, wrong, *doubt]))
    return [doubt[bin_of(score)] for score in scores]
