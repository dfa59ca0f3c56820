"""Distinct by comparing every sample with every other one, and ClassCap by counting."""

import statistics
from collections.abc import Sequence


def groups(contents: Sequence[object], labels: Sequence[object]) -> list[frozenset[int]]:
    """Samples that are the same and have the same label; those that are the same as one of another label are alone."""
    places = range(len(contents))
    alike = [{j for j in places if contents[j] == contents[i]} for i in places]
    conflict = [any(labels[j] != labels[i] for j in alike[i]) for i in places]
    return sorted({frozenset({i} if conflict[i] else alike[i]) for i in places}, key=min)


def conflicts(contents: Sequence[object], labels: Sequence[object]) -> list[int]:
    places = range(len(contents))
    return [i for i in places if any(contents[j] == contents[i] and labels[j] != labels[i] for j in places)]


def capped(labels: Sequence[int], cap: float) -> dict[int, int]:
    """How many samples of each class an epoch takes."""
    counts = {label: sum(other == label for other in labels) for label in labels}
    middle = statistics.median(counts.values())
    if max(counts.values()) <= 1.5 * middle:
        return counts
    if cap * middle > len(labels):
        return counts
    return {label: min(count, max(1, round(cap * middle))) for label, count in counts.items()}
