"""IDS, Algorithm 2: class prototypes, Euclidean distances, two sorted subsets. Plain loops."""

import math
from fractions import Fraction


def distances(features: list[list[float]], labels: list[int]) -> list[float]:
    result = []
    for row, label in zip(features, labels, strict=True):
        members = [other for other, its in zip(features, labels, strict=True) if its == label]
        prototype = [math.fsum(column) / len(members) for column in zip(*members, strict=True)]
        result.append(math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(row, prototype, strict=True))))
    return result


def subset(features: list[list[float]], labels: list[int], keep_ratio: str, *, hard: bool) -> list[int]:
    """Of each class the first ceil(alpha * L) by distance and the last one."""
    distance = distances(features, labels)
    kept: set[int] = set()
    for label in set(labels):
        members = [i for i in range(len(labels)) if labels[i] == label]
        members.sort(key=lambda i: distance[i], reverse=hard)
        kept.update(members[: math.ceil(Fraction(keep_ratio) * len(members))])
        kept.add(members[-1])
    return sorted(kept)
