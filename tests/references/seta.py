"""SeTa: Lloyd's k-means of single numbers, and the window that slides over its clusters."""

import math


def clusters(values: list[float], groups: int) -> list[int]:
    """The cluster of each value, counted upwards; Lloyd from the middles of equal parts of the distinct values."""
    distinct = sorted(set(values))
    count = min(groups, len(distinct))
    centres = [distinct[math.floor((i + 0.5) / count * len(distinct))] for i in range(count)]
    while True:
        nearest = [min(range(count), key=lambda k: (abs(value - centres[k]), k)) for value in values]
        moved = []
        for k in range(count):
            members = [value for value, at in zip(values, nearest, strict=True) if at == k]
            moved.append(math.fsum(members) / len(members) if members else centres[k])
        if moved == centres:
            break
        centres = moved
    names = sorted(set(nearest))
    return [names.index(k) for k in nearest]


def windows(groups: int, width: int, epochs: int) -> list[list[int]]:
    """The clusters of each epoch, from the first that has losses on."""
    places = [list(range(start, start + width)) for start in range(groups - width + 1)]
    return [places[epoch % len(places)] for epoch in range(epochs)]
