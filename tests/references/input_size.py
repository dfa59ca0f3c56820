"""Input size, walked through step by step: which side a moment of the training has, and how much work is done by it."""


def walk(sides: list[float], moments: int = 100_000) -> list[tuple[float, float]]:
    """At ``moments`` evenly spaced moments of the training: the side, and the share of the work done since its start.

    A stage is left once its share of the work, the same for each, is done. How much work there is in all is found by
    trial, so that the last stage is left at the last moment.
    """
    low, high = 0.0, 1.0  # work of the whole training, full training is 1
    for _ in range(60):
        middle = (low + high) / 2
        time = sum(middle / len(sides) / side**2 for side in sides)
        low, high = (middle, high) if time < 1 else (low, middle)
    total, done, walked = (low + high) / 2, 0.0, []
    for _ in range(moments):
        stage = min(int(done / (total / len(sides))), len(sides) - 1)
        done += sides[stage] ** 2 / moments
        walked.append((sides[stage], done / total))
    return walked
