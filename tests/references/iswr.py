"""ISWR: probabilities in proportion to the last loss, draws by a walk along the cumulative sum, dealt at random."""

import math


def probabilities(losses: list[float]) -> list[float]:
    """NaN marks a sample never seen: it counts as one of average loss."""
    seen = [loss for loss in losses if not math.isnan(loss)]
    mean = math.fsum(seen) / len(seen) if seen else 1.0
    filled = [mean if math.isnan(loss) else loss for loss in losses]
    total = math.fsum(filled)
    return [loss / total if total > 0 else 1 / len(losses) for loss in filled]


def draw(p: list[float], points: list[float]) -> list[int]:
    """For each point in [0, 1) the sample on whose stretch it falls."""
    drawn = []
    for point in points:
        reached = 0.0
        for i, probability in enumerate(p):
            reached += probability
            if point < reached:
                drawn.append(i)
                break
    return drawn


def dealt(draws: list[int], order: list[int]) -> list[int]:
    """The draws, taken from the sorted ones as the cards of a deck: the next is always the one ``order`` names."""
    deck = sorted(draws)
    return [deck[place] for place in order]


def weights(p: list[float]) -> list[float]:
    return [1 / (len(p) * probability) if probability > 0 else math.inf for probability in p]
