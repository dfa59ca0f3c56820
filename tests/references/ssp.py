"""SSP in plain loops: distances to given centroids, and what a subset with and without class balance must be."""

import math
from fractions import Fraction


def cosine(a: list[float], b: list[float]) -> float:
    """1 - cos; a zero vector has no direction and stands at 1."""
    lengths = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return 1 - math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 1.0


def euclidean(a: list[float], b: list[float]) -> float:
    return math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def manhattan(a: list[float], b: list[float]) -> float:
    return math.fsum(abs(x - y) for x, y in zip(a, b, strict=True))


DISTANCES = {"cosine": cosine, "euclidean": euclidean, "manhattan": manhattan}


def scaled(row: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(x * x for x in row))
    return [x / length for x in row] if length else row


def mean(rows: list[list[float]]) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def difficulty(features: list[list[float]], centroids: list[list[float]], distance: str) -> list[float]:
    return [min(DISTANCES[distance](row, centroid) for centroid in centroids) for row in features]


def is_fixed_point(rows: list[list[float]], centroids: list[list[float]], tolerance: float) -> bool:
    """Lloyd's steps change nothing: each row belongs to its nearest centroid, each centroid is its members' mean."""
    members: list[list[list[float]]] = [[] for _ in centroids]
    for row in rows:
        away = [euclidean(row, centroid) for centroid in centroids]
        members[away.index(min(away))].append(row)
    return all(
        own and euclidean(mean(own), centroid) <= tolerance for own, centroid in zip(members, centroids, strict=True)
    )


def subset(
    difficulties: list[float], labels: list[int], keep_ratio: str, *, hard: bool = True, class_balance: str = "0"
) -> list[int]:
    """Each class's due first, then the rest of the whole by difficulty."""
    order = sorted(range(len(labels)), key=lambda i: difficulties[i], reverse=hard)
    kept: list[int] = []
    for label in set(labels):
        members = [i for i in order if labels[i] == label]
        kept += members[: math.floor(Fraction(class_balance) * Fraction(keep_ratio) * len(members))]
    total = math.ceil(Fraction(keep_ratio) * len(labels))
    kept += [i for i in order if i not in kept][: total - len(kept)]
    return sorted(kept)
