"""A batch knows who it is: what is told of it reaches its samples, in loops that are not the plain one too."""

import pytest
import torch
from torch.utils.data import DataLoader

from leantrain import SB, Full, wrap
from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from toys import SIZE, Numbers, wrapped


class Weighted(Selector):
    """Sample i has weight i."""

    def plan(self, epoch, pool):
        return Plan(pool, pool.float())


def numbers(batch_size=4, epochs=3, selector=None, **options):
    return wrap(DataLoader(range(SIZE), batch_size, shuffle=True, **options), selector or Full(), epochs=epochs)


def own_losses(loader):
    """Sample i has loss i + 1: of how many samples does the ledger know another one's?"""
    return int((loader.ledger.loss != torch.arange(SIZE) + 1).sum())


def loss(samples):
    return (samples + 1.0).requires_grad_()


def test_a_loop_that_fetches_ahead_is_told_so_otherwise():
    loader = numbers()
    batches = iter(loader)
    first = next(batches)
    next(batches)
    with pytest.raises(RuntimeError, match=r"fetches ahead.*reduce\(losses, indices=ids\)"):
        loader.reduce(loss(first))
    assert bool(loader.ledger.loss.isnan().all())
    loader.reduce(loss(first), indices=first)
    assert loader.stats.trained == 4


def test_what_is_told_again_counts_once():
    loader = numbers()
    right, labels = torch.tensor([5.0, 0.0]).repeat(4, 1), torch.zeros(4, dtype=torch.int64)
    for _ in range(2):
        for batch in loader:
            loader.reduce(loss(batch), right, labels)
            again = loader.reduce(10 * loss(batch), right.flip(1), labels)
            assert again.item() == pytest.approx(float(10 * (batch + 1.0).mean()))
    assert own_losses(loader) == 0
    assert int(loader.ledger.forgotten.max()) == 0
    assert (loader.stats.trained, loader.stats.steps) == (2 * SIZE, 2 * SIZE // 4)


def test_micro_batches_cut_from_one():
    loader = numbers(batch_size=8, selector=Weighted())
    for batch in loader:
        for part in batch.split(3):
            given = loader.reduce(loss(part), indices=part)
            assert given.item() == pytest.approx(float((part * (part + 1.0)).mean()))
    assert own_losses(loader) == 0
    assert (loader.stats.trained, loader.stats.steps) == (SIZE, SIZE // 8)


def test_several_batches_told_at_once_in_another_order():
    loader = numbers(selector=Weighted())
    batches = list(iter(loader))[:3]
    together = torch.cat(batches).flip(0)
    given = loader.reduce(loss(together), indices=together.tolist())
    assert given.item() == pytest.approx(float((together * (together + 1.0)).mean()))
    assert loader.ledger.loss[together].tolist() == (together + 1.0).tolist()
    assert (loader.stats.trained, loader.stats.steps) == (12, 3)


class Twice(Selector):
    """Each sample stands in the first batches and again in the last ones."""

    def plan(self, epoch, pool):
        return Plan(torch.cat([pool, pool]))


def test_a_sample_of_two_batches_is_told_of_the_older_one_first():
    loader = numbers(batch_size=SIZE, selector=Twice())
    first, second = list(iter(loader))
    loader.reduce(loss(first), indices=first)
    assert loader.stats.trained == SIZE
    loader.reduce(loss(second), indices=second)
    assert (loader.stats.trained, loader.stats.steps) == (2 * SIZE, 2)
    assert loader.ledger.trained.tolist() == [2] * SIZE


def test_a_batch_that_was_left_behind_is_not_the_next_pass_s():
    """In the data set's order the first batches of each pass hold the same samples."""
    loader = wrap(DataLoader(range(SIZE), 4), Full(), epochs=3)
    for epoch in range(3):
        batches = iter(loader)
        fetched = [(loader.indices, batch) for _, batch in zip(range(3), batches, strict=False)]
        for ids, samples in fetched[:2]:  # the third is left
            loader.reduce(loss(samples), indices=ids)
        if epoch == 1:
            ids, samples = fetched[2][1], fetched[2][1]
            loader.reduce(loss(samples), indices=ids)
            assert loader.ledger.loss_epoch[ids].tolist() == [1] * 4


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (lambda ids: ids[:2], ValueError, "expected one loss a sample"),
        (lambda ids: [*ids[:3].tolist(), -1], ValueError, r"samples \[-1\] that no batch of late held"),
        (lambda ids: ids.float(), TypeError, "list or tensor of integers"),
        (lambda ids: ids[:0], ValueError, "no batch of late held"),
        (lambda ids: "abc", TypeError, "integers"),
    ],
)
def test_indices_that_cannot_be(given, error, said):
    loader = numbers()
    batch = next(iter(loader))
    with pytest.raises(error, match=said):
        loader.reduce(loss(batch), indices=given(batch))
    assert loader.stats.trained == 0
    loader.reduce(loss(batch), indices=batch)
    assert loader.stats.trained == 4


def test_a_kept_sample_that_cannot_be_read_again_takes_no_other_along(recwarn):
    """The open batch of an epoch is read again in the next: what is lost of it is lost with its index."""

    class Flaky(Numbers):
        lost = ()

        def __getitem__(self, index):
            if index in self.lost:
                raise OSError("network")
            return super().__getitem__(index)

    data = Flaky()
    loader = wrapped(SB(start_epoch=0, beta=0.5), data, unreadable="skip", epochs=4, batch_size=8)
    for _ in range(4):
        data.lost = loader.state_dict()["open"].tolist()[::2]
        for batch, _ in loader:
            assert loader.indices.tolist() == batch.tolist()
            loader.reduce(loss(batch))
    assert loader.stats.unreadable > 0
