"""ADONIS and SB on recycled losses, sample by sample."""

from collections.abc import Callable


def train(
    trained_losses: list[list[float]],
    refreshed_losses: list[list[float]],
    *,
    order: Callable[[int, int], list[int]],
    batch_size: int,
    start_epoch: int,
    max_age: int,
    refresh: str,
    judge: Callable[[list[float]], list[int]],
) -> list[tuple[list[int], list[int]]]:
    """Of each epoch, the samples trained on and those refreshed after it, ascending.

    ``..._losses[epoch][i]`` is what a training step or a refresh tells; ``order(epoch, n)`` the order in which ``n``
    samples of known loss are judged; ``judge`` gives the positions kept of a batch's losses.
    """
    size, epochs = len(trained_losses[0]), len(trained_losses)
    known: dict[int, tuple[float, int]] = {}  # loss, and in which epoch it was seen
    found = []
    for epoch in range(epochs):
        if epoch < start_epoch:
            trained, refreshed = list(range(size)), []
        else:
            judged = [i for i in range(size) if i in known and epoch - known[i][1] <= max_age]
            trained = [i for i in range(size) if i not in judged]
            queue = [judged[position] for position in order(epoch, len(judged))]
            while queue:
                batch, queue = queue[:batch_size], queue[batch_size:]
                trained += [batch[position] for position in judge([known[i][0] for i in batch])]
            refreshed = []
            if refresh == "score" and epoch < epochs - 1:
                refreshed = [i for i in range(size) if i not in trained and epoch + 1 - known[i][1] > max_age]
        for i in trained:
            known[i] = trained_losses[epoch][i], epoch
        for i in refreshed:
            known[i] = refreshed_losses[epoch][i], epoch
        found.append((sorted(trained), refreshed))
    return found
