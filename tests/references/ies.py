"""IES: the second-order differences of each sample's own losses, sample by sample."""

import math


def mastered(history: list[float], *, threshold: float, window: int) -> bool:
    """``history``: the losses that were seen, oldest first."""
    differences = [history[t] - 2 * history[t - 1] + history[t - 2] for t in range(2, len(history))]
    if len(differences) < window:
        return False
    return math.fsum(abs(value) for value in differences[-window:]) / window < threshold


def train(table: list[list[float]], *, threshold: float, window: int) -> list[list[int]]:
    """Samples trained on in each epoch; ``table[epoch][i]`` is a loss, NaN for one that is not taken."""
    histories: list[list[float]] = [[] for _ in table[0]]
    used = []
    for losses in table:
        used.append([i for i, past in enumerate(histories) if not mastered(past, threshold=threshold, window=window)])
        for past, loss in zip(histories, losses, strict=True):
            if not math.isnan(loss):
                past.append(loss)
    return used
