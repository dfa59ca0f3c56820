"""Selective-Backprop: P(l) = CDF_R(l) ** beta, the CDF by counting."""


def probabilities(history: list[float], losses: list[float], beta: float) -> list[float]:
    return [(sum(1 for past in history if past < loss) / len(history)) ** beta for loss in losses]


def scored_epochs(epochs: int, *, start_epoch: int, age: int) -> list[int]:
    """Epochs with a scoring pass when a loss counts as current for ``age`` epochs (eta of ADONIS, Stale-SB)."""
    scored: list[int] = []
    for epoch in range(start_epoch, epochs):
        if not scored or epoch - scored[-1] >= age:
            scored.append(epoch)
    return scored
