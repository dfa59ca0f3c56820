"""IDS, Algorithm 2: class prototypes, distances, two sorted subsets. Plain loops."""

import math
import statistics
from fractions import Fraction

from references.ssp import DISTANCES, scaled


def distances(features: list[list[float]], labels: list[int]) -> list[float]:
    result = []
    for row, label in zip(features, labels, strict=True):
        members = [other for other, its in zip(features, labels, strict=True) if its == label]
        prototype = [math.fsum(column) / len(members) for column in zip(*members, strict=True)]
        result.append(math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(row, prototype, strict=True))))
    return result


def distances_to(features: list[list[float]], labels: list[int], prototype: str, distance: str) -> list[float]:
    """The same for the other prototypes and distances; cosine works on rows of length 1."""
    away = DISTANCES[distance]
    rows = [scaled(row) for row in features] if distance == "cosine" else features
    result = []
    for row, label in zip(rows, labels, strict=True):
        members = [other for other, its in zip(rows, labels, strict=True) if its == label]
        if prototype == "medoid":
            centre = min(members, key=lambda one: math.fsum(away(one, other) for other in members))
        else:
            of = statistics.median if prototype == "median" else statistics.fmean
            centre = [of(column) for column in zip(*members, strict=True)]
        result.append(away(row, centre))
    return result


def is_hard(epoch: int, switches: list[float]) -> bool:
    hard = False
    for switch in switches:
        if epoch >= switch:
            hard = not hard
    return hard


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
