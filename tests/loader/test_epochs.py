"""Epochs as the user sees them: batch sizes, the open batch, length, progress, leaving early, peeking."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler

from leantrain import RPD, RS2, SB, Adonis, Batch, Full, InfoBatch, ProgressLR, Selector, schedule, wrap
from toys import METHODS, SIZE, Numbers, flat, losses_at, run_epoch, wrapped

ONLINE = ["adonis", "stale adonis", "ids|adonis", "rpd|stale-sb"]  # without priming epochs
BY_EPOCH = ["full", "rpc", "rpd", "rs2", "infobatch", "ids", "infobatch|rs2"]


class Odd(Selector):
    """Online: keeps the samples with an odd index, in fresh epochs and in those with stored losses."""

    needs = frozenset({"score"})

    def __init__(self, age: int = 1) -> None:
        self.age = age

    def loss_age(self, epoch: int) -> int:
        return self.age

    def select(self, batch: Batch) -> Tensor:
        return (batch.indices % 2).nonzero().flatten()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("age", [1, 3])
def test_the_open_batch_carries_over_and_is_flushed_at_the_end(age: int, workers: int) -> None:
    """20 odd samples an epoch, batches of 8: 3 epochs are 7 full batches and one of 4, in order."""
    loader = wrapped(Odd(age), batch_size=8, epochs=3, num_workers=workers)
    batches = [batch for _ in range(3) for batch in run_epoch(loader)]
    assert [len(batch) for batch in batches] == [8] * 7 + [4]
    assert flat(batches) == [*range(1, SIZE, 2)] * 3


@pytest.mark.parametrize("age", [1, 3])
def test_drop_last_drops_only_the_last_of_all(age: int) -> None:
    loader = wrapped(Odd(age), batch_size=8, epochs=3, drop_last=True)
    batches = [batch for _ in range(3) for batch in run_epoch(loader)]
    assert [len(batch) for batch in batches] == [8] * 7
    assert flat(batches) == ([*range(1, SIZE, 2)] * 3)[:56]


@pytest.mark.parametrize("method", ONLINE)
def test_online_batches_are_full(method: str) -> None:
    loader = wrapped(METHODS[method](), batch_size=7, epochs=5, shuffle=True)
    sizes = [len(batch) for _ in range(5) for batch in run_epoch(loader)]
    assert len(sizes) > 5
    assert set(sizes[:-1]) == {7}


def test_without_a_known_end_nothing_is_flushed() -> None:
    loader = wrapped(Odd(), batch_size=8, epochs=None)
    assert [len(run_epoch(loader)) for _ in range(4)] == [2, 3, 2, 3]


def test_an_epoch_without_a_batch_warns() -> None:
    loader = wrapped(Odd(), batch_size=30, epochs=2)
    with pytest.warns(UserWarning, match="Epoch 0: Odd kept too few samples for a single batch"):
        assert run_epoch(loader) == []
    assert [len(batch) for batch in run_epoch(loader)] == [30, 10]


def test_batches_of_ones_own_lose_samples_and_never_mix() -> None:
    own = [[*range(10)], [*range(10, 13)], [*range(13, 40)]]
    loader = wrapped(RPD(keep_ratio=0.9), batch_sampler=own)
    batches = run_epoch(loader)
    assert sorted(flat(batches)) == loader.ledger.trained.nonzero().flatten().tolist()
    assert len(flat(batches)) == 36
    kept = set(flat(batches))
    assert batches == [wanted for batch in own if (wanted := [index for index in batch if index in kept])]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"drop_last": True}])
@pytest.mark.parametrize("method", BY_EPOCH)
def test_length_is_the_number_of_batches(method: str, options: dict[str, Any]) -> None:
    loader = wrapped(METHODS[method](), batch_size=7, epochs=5, **options)
    for _ in range(5):
        length = len(loader)
        assert length == len(run_epoch(loader)) > 0


@pytest.mark.parametrize(
    ("options", "own_length"),
    [
        ({"sampler": SubsetRandomSampler(range(0, SIZE, 2))}, 5),
        ({"batch_sampler": [[*range(20)], [*range(20, 40)]]}, 2),
        ({"batch_sampler": [[*range(30)], [*range(30, 35)], [*range(35, 40)]]}, 3),
    ],
    ids=["subset", "batches", "uneven batches"],
)
@pytest.mark.parametrize("method", BY_EPOCH)
def test_length_with_a_custom_sampler_is_the_most(method: str, options: dict[str, Any], own_length: int) -> None:
    """What such a sampler yields is known only while it runs; but never more than without selection."""
    loader = wrapped(METHODS[method](), epochs=5, **options)
    for _ in range(3):
        length = len(loader)
        assert 0 < len(run_epoch(loader)) <= length <= own_length


@pytest.mark.parametrize("method", ["full", "rs2"])
def test_length_of_a_cut_last_epoch(method: str) -> None:
    loader = wrapped(METHODS[method](), epochs=2.4)
    for _ in range(3):
        length = len(loader)
        assert length == len(run_epoch(loader)) > 0


@pytest.mark.parametrize("method", ONLINE)
def test_length_is_the_most_for_online_methods(method: str) -> None:
    loader = wrapped(METHODS[method](), epochs=5)
    for _ in range(5):
        most = len(loader)
        assert len(run_epoch(loader)) <= most


@pytest.mark.parametrize(("epochs", "samples"), [(2.4, [40, 40, 16]), (0.5, [20]), (1.01, [40, 1]), (3, [40, 40, 40])])
def test_a_fractional_epoch_uses_that_share(epochs: float, samples: list[int]) -> None:
    loader = wrapped(Full(), epochs=epochs, shuffle=True)
    assert [len(flat(run_epoch(loader))) for _ in samples] == samples
    assert loader.progress == 1.0


def test_a_fractional_epoch_of_an_online_method() -> None:
    loader = wrapped(Odd(), epochs=1.5, batch_size=8)
    assert flat(run_epoch(loader)) + flat(run_epoch(loader)) == [*range(1, SIZE, 2), *range(1, SIZE // 2, 2)]
    assert loader.stats.scored == 60


@pytest.mark.parametrize(
    ("method", "epochs", "options"),
    [
        pytest.param(
            *case, marks=pytest.mark.slow if case[2] == {"num_workers": 2} and case[0] != "stale adonis" else ()
        )
        for case in itertools.product(
            ["full", "infobatch", "stale adonis", "ids|adonis", "sb"],
            [3, 2.4],
            [{}, {"num_workers": 2}, {"drop_last": True}],
        )
    ],
)
def test_progress_rises_from_0_to_1(method: str, epochs: float, options: dict[str, Any]) -> None:
    loader = wrapped(METHODS[method](), epochs=epochs, batch_size=5, **options)
    seen = [loader.progress]
    for epoch in range(3):
        assert loader.progress == pytest.approx(epoch / epochs)
        for _ in loader:
            loader.reduce(losses_at(loader.epoch, loader.indices))
            seen.append(loader.progress)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert loader.progress == 1.0
    if method == "full" and "drop_last" not in options:
        assert seen[-1] == 1.0


def test_progress_counts_samples() -> None:
    loader = wrapped(Full(), epochs=2, batch_size=10)
    seen = [loader.progress for _ in range(2) for _ in loader]
    assert seen == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1])


def test_progress_needs_epochs() -> None:
    with pytest.raises(ValueError, match=r"progress depends on the length of the training.*epochs=90"):
        _ = wrapped(Full(), epochs=None).progress


@pytest.mark.parametrize("method", ["full", "stale adonis", "sb", "infobatch"])
def test_progress_lr_follows_the_schedule(method: str) -> None:
    """However many steps there are, the learning rate is the schedule's at the share of training done."""
    loader = wrapped(METHODS[method](), epochs=4)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    factor = schedule.linear_peak(0.25)
    scheduler = ProgressLR(optimizer, loader, factor)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(4):
        for _ in loader:
            loader.reduce(losses_at(loader.epoch, loader.indices))
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
            assert rates[-1] == pytest.approx(0.5 * factor(loader.progress))
    assert rates[0] == rates[-1] == 0
    assert max(rates) > 0.4


@pytest.mark.parametrize(
    ("make", "points"),
    [
        (lambda: schedule.constant(), {0: 1, 0.5: 1, 1: 1}),
        (
            lambda: schedule.multistep([0.3, 0.6], 0.2),
            {0: 1, 0.29: 1, 0.3: 0.2, 0.59: 0.2, 0.6: 0.04, 1: 0.04},
        ),
        (lambda: schedule.linear_peak(0.2), {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        (lambda: schedule.linear_peak(0), {0: 1, 0.5: 0.5, 1: 0}),
        (lambda: schedule.cosine(), {0: 1, 0.5: 0.5, 1: 0}),
        (lambda: schedule.cosine(0.5), {0: 0, 0.25: 0.5, 0.5: 1, 0.75: 0.5, 1: 0}),
    ],
)
def test_schedules(make: Callable[[], Callable[[float], float]], points: dict[float, float]) -> None:
    factor = make()
    assert {p: factor(p) for p in points} == pytest.approx(points)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedule.multistep([60, 120], 0.2), "milestone=60 is outside"),
        (lambda: schedule.multistep([0.6, 0.3], 0.2), r"milestones=\[0\.6, 0\.3\] must ascend"),
        (lambda: schedule.linear_peak(1), r"warmup=1 is outside \[0, 1\)"),
        (lambda: schedule.cosine(-0.1), r"warmup=-0\.1 is outside \[0, 1\)"),
    ],
)
def test_schedules_are_checked(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(("method", "workers"), [*((method, 0) for method in METHODS), ("rs2", 2), ("stale adonis", 2)])
def test_peeking_uses_nothing_up(method: str, workers: int) -> None:
    """``next(iter(loader))``, to build a model or to look, changes neither this epoch nor the next ones."""
    epochs = 3 if workers else 5
    plain, peeked = (wrapped(METHODS[method](), epochs=epochs, num_workers=workers) for _ in range(2))
    for epoch in range(epochs):
        next(iter(peeked), None)
        assert peeked.epoch == epoch
        assert run_epoch(peeked) == run_epoch(plain)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["full", "rs2", "infobatch", "stale adonis", "sb"])
def test_leaving_early_ends_the_epoch(method: str, workers: int) -> None:
    loader = wrapped(METHODS[method](), epochs=5, num_workers=workers, persistent_workers=workers > 0)
    for epoch in range(4):
        for number, batch in enumerate(loader):
            assert loader.epoch == epoch
            assert batch[0].tolist() == loader.indices.tolist()
            loader.reduce(losses_at(epoch, loader.indices))
            if number == 1:
                break
    whole = flat(run_epoch(loader))
    assert loader.epoch == 5
    assert loader.progress == 1
    if method == "full":
        assert whole == [*range(SIZE)]


@pytest.mark.parametrize("age", [1, 3])
def test_leaving_early_trains_no_open_sample_twice(age: int) -> None:
    """20 odd samples leave 4 in the open batch; they head the next epoch's first batch, which is trained on, once."""
    loader = wrapped(Odd(age), batch_size=8, epochs=9)
    run_epoch(loader)
    for _ in loader:
        assert loader.indices.tolist()[:4] == [33, 35, 37, 39]
        loader.reduce(losses_at(1, loader.indices))
        break
    assert flat(run_epoch(loader))[:4] != [33, 35, 37, 39]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_iterators_never_mix_up_indices(workers: int) -> None:
    """They share the loader's state. The older one may refuse to go on, but not give batches under wrong indices."""
    loader = wrapped(Full(), shuffle=True, num_workers=workers)
    old, new = iter(loader), iter(loader)
    next(old)
    next(new)
    for batches in (old, new, new):
        try:
            batch = next(batches)
        except RuntimeError:
            assert batches is old
        else:
            assert batch[0].tolist() == loader.indices.tolist()


def test_an_epoch_is_the_running_one_until_its_iterator_ends() -> None:
    loader = wrapped(RS2(keep_ratio=0.5))
    first = loader.plan.indices
    for _ in loader:
        assert torch.equal(loader.plan.indices, first)
        assert len(loader) == 5
        loader.reduce(torch.ones(4))
    assert loader.epoch == 1
    assert not torch.equal(loader.plan.indices, first)


def test_attributes_of_the_users_loader() -> None:
    data = Numbers()
    loader = wrapped(InfoBatch(), data, batch_size=5)
    assert (loader.dataset, loader.batch_size) == (data, 5)
    assert [*loader.sampler] == [*range(SIZE)]


def test_one_sample() -> None:
    loader = wrapped(Full(), Numbers(1), epochs=2)
    assert [run_epoch(loader) for _ in range(2)] == [[[0]], [[0]]]


@pytest.mark.parametrize(
    "method", [SB(beta=1.0), Adonis(theta="auto"), RPD(), RS2(), InfoBatch()], ids=lambda s: type(s).__name__
)
def test_one_sample_with_other_methods(method: Selector) -> None:
    loader = wrapped(method, Numbers(1), batch_size=1, epochs=2)
    for _ in range(2):
        for _ in loader:
            loader.reduce(losses_at(loader.epoch, loader.indices))
            assert loader.indices.tolist() == [0]
        break
    assert loader.ledger.trained.item() == 1


def test_progress_of_a_cut_epoch_grows_with_its_samples() -> None:
    loader = wrap(DataLoader(Numbers(40), batch_size=4), Full(), epochs=1.5)
    seen = [loader.progress for _ in range(2) for _ in loader]
    assert seen == pytest.approx([(4 * (i + 1)) / 60 for i in range(15)])
