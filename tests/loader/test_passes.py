"""Passes over a loader that are no plain epochs: fetched ahead, looked at, left, counted in steps, gone on with."""

import pickle

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from leantrain import IES, RPD, RS2, Adonis, ComposerSB, Full, InfoBatch, wrap
from toys import SIZE, Numbers, wrapped


def numbers(selector=None, batch_size=4, epochs=3, **options):
    options = {"shuffle": True} | options if "sampler" not in options else options
    return wrap(DataLoader(range(SIZE), batch_size, **options), selector or Full(), epochs=epochs)


def loss(samples):
    return (samples + 1.0).requires_grad_()


def train_ahead(loader, ahead=2):
    held, given = [], []
    for batch in loader:
        held.append((loader.indices, batch))
        given.append(batch.tolist())
        if len(held) > ahead:
            ids, samples = held.pop(0)
            loader.reduce(loss(samples), indices=ids)
    for ids, samples in held:
        loader.reduce(loss(samples), indices=ids)
    return given


@pytest.mark.parametrize("selector", [Full, InfoBatch, RS2])
def test_an_epoch_ends_with_the_losses_of_its_last_batch(selector):
    loader = numbers(selector())
    for epoch in range(3):
        train_ahead(loader)
        assert loader.epoch == epoch + 1
        assert loader.progress == pytest.approx((epoch + 1) / 3)


def test_ahead_the_next_plan_knows_the_last_losses():
    ahead, plain = (numbers(InfoBatch(), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    for _ in range(3):
        given = train_ahead(ahead, ahead=1)
        expected = []
        for batch in plain:
            expected.append(batch.tolist())
            plain.reduce(loss(batch))
        assert given == expected


def test_a_late_loss_ends_no_other_epoch():
    loader = numbers()
    first = iter(loader)
    batches = [(loader.indices, batch) for batch in first]
    for ids, samples in batches[:-1]:
        loader.reduce(loss(samples), indices=ids)
    following = next(iter(loader))  # the prefetcher goes on
    assert loader.epoch == 1
    loader.reduce(loss(batches[-1][1]), indices=batches[-1][0])
    loader.reduce(loss(following))
    assert (loader.epoch, loader.stats.trained) == (1, SIZE + 4)
    assert (loader.ledger.loss_epoch[batches[-1][1]] <= 1).all()


@pytest.mark.parametrize("selector", [Full, RS2, InfoBatch])
def test_a_pass_without_training_is_no_epoch(selector):
    loader, alone = (numbers(selector(), generator=torch.Generator().manual_seed(2)) for _ in range(2))
    for epoch in range(3):
        with torch.no_grad():
            for _ in loader:
                pass
        assert loader.epoch == epoch
        for batch in loader:
            loader.reduce(loss(batch))
    for _ in range(3):
        for batch in alone:
            alone.reduce(loss(batch))
    assert loader.epoch == alone.epoch == 3
    assert loader.stats.trained == alone.stats.trained


def test_losses_of_what_was_taken_for_a_look_are_refused():
    """Fetched ahead to the end, with ids from the data set itself: the loader cannot know that training will follow."""
    loader = numbers()
    for batch in loader:
        loader.reduce(loss(batch))
    batches = list(loader)
    assert loader.epoch == 1
    with pytest.raises(ValueError, match=r"taken for a look at batches: ask for them when one is fetched"):
        loader.reduce(loss(batches[0]), indices=batches[0])
    assert loader.stats.trained == SIZE
    for ids, batch in [(loader.indices, batch) for batch in loader]:
        loader.reduce(loss(batch), indices=ids)
    assert (loader.epoch, loader.stats.trained) == (2, 2 * SIZE)


def test_after_the_last_batch_a_loss_is_not_training():
    loader = numbers()
    for batch in loader:
        loader.reduce(loss(batch))
    with pytest.raises(RuntimeError, match="validation batch"):
        loader.reduce(torch.full((4,), 9.0))
    assert loader.stats.trained == SIZE


@pytest.mark.parametrize("stop", [0, 1, 4, 9])
@pytest.mark.parametrize("selector", [Full, lambda: Adonis(theta="auto", stale_epochs=2)])
def test_what_was_fetched_ahead_and_not_trained_on_comes_again(selector, stop):
    def made():
        generator = torch.Generator().manual_seed(3)
        return wrapped(selector(), shuffle=True, generator=generator, epochs=3)

    def run(loader, steps):
        """At most ``steps`` steps of a loop that is one batch ahead: what was trained on."""
        trained = []
        while loader.epoch < 3:
            held = None
            for x, _ in loader:
                if held is not None:
                    if len(trained) == steps:
                        return trained
                    loader.reduce(loss(held[1]), indices=held[0])
                    trained.append(held[1].tolist())
                held = (loader.indices, x)
            if held is not None:
                if len(trained) == steps:
                    return trained
                loader.reduce(loss(held[1]), indices=held[0])
                trained.append(held[1].tolist())
        return trained

    straight = run(made(), 10**6)
    first = made()
    before = run(first, stop)
    second = made()
    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    after = run(second, 10**6)
    assert sorted(map(sorted, before + after)) == sorted(map(sorted, straight))


class Half(Sampler):
    """The even samples, as a sampler of one's own."""

    def __iter__(self):
        yield from range(0, SIZE, 2)

    def __len__(self):
        return SIZE // 2


@pytest.mark.parametrize("sampler", [Half, lambda: SubsetRandomSampler(range(0, SIZE, 2))])
def test_plans_are_made_over_what_the_sampler_gives(sampler):
    loader = numbers(RS2(keep_ratio=0.5), sampler=sampler())
    for _ in range(2):
        seen = []
        for batch in loader:
            seen += batch.tolist()
            loader.reduce(loss(batch))
        assert len(seen) == SIZE // 4
        assert all(index % 2 == 0 for index in seen)
    assert bool(loader.ledger.loss[1::2].isnan().all())


def test_a_sampler_of_ones_own_is_planned_once_it_is_drawn():
    loader = numbers(RS2(keep_ratio=0.5), sampler=Half())
    assert len(loader) == 5  # the most
    with pytest.raises(RuntimeError, match="only then is known what Half gives"):
        loader.plan  # noqa: B018
    next(iter(loader))
    assert len(loader.plan.indices) == SIZE // 4


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: WeightedRandomSampler(torch.ones(SIZE), 4 * SIZE),
        lambda: RandomSampler(range(SIZE), replacement=True, num_samples=3 * SIZE),
        lambda: RandomSampler(range(SIZE), num_samples=12),
    ],
)
def test_the_length_is_what_a_pass_gives(sampler):
    loader = numbers(sampler=sampler())
    said = len(loader)
    assert said == sum(1 for _ in loader)


def test_the_state_of_another_run_is_refused():
    state = numbers(InfoBatch()).state_dict()
    for other, said in ((numbers(RS2()), "method is 'InfoBatch'"),):
        with pytest.raises(ValueError, match=said):
            other.load_state_dict(state)
    other = wrap(DataLoader(range(SIZE + 1), 4), InfoBatch(), epochs=3)
    with pytest.raises(ValueError, match="data set is '40 samples"):
        other.load_state_dict(state)


def test_another_batch_size_goes_on_between_epochs_only():
    loader = numbers(InfoBatch())
    between = loader.state_dict()
    for batch in loader:
        loader.reduce(loss(batch))
        break
    within = loader.state_dict()
    numbers(InfoBatch(), batch_size=8).load_state_dict(between)
    with pytest.raises(ValueError, match="batch size is 4 within epoch 0; here it is 8"):
        numbers(InfoBatch(), batch_size=8).load_state_dict(within)


def test_labels_that_read_the_same_backwards_hide_no_change_of_order():
    def by_size(samples):
        samples = sorted(samples, reverse=True)
        return {"id": torch.tensor(samples), "label": torch.tensor([sample in (1, 2) for sample in samples])}

    loader = wrap(DataLoader(range(4), 4, collate_fn=by_size), Full(), epochs=1)
    with pytest.raises(ValueError, match="gives samples back in another order"):
        next(iter(loader))


def test_a_first_batch_of_one_sample_twice_hides_no_change_of_order():
    order = [3, 3, 0, 1]
    loader = wrap(DataLoader(range(4), 2, sampler=order, collate_fn=lambda s: torch.tensor(sorted(s))), Full())
    batches = iter(loader)
    assert next(batches).tolist() == [3, 3]
    with pytest.raises(ValueError, match="gives samples back in another order"):
        next(batches)


def test_a_scoring_function_that_does_not_fit_shows_at_once():
    loader = wrapped(IES(threshold=1.0, window=3), epochs=9, score=lambda batch: torch.tensor(1.0))
    with pytest.raises(ValueError, match="score"):
        next(iter(loader))


def test_what_a_loader_has():
    plain = DataLoader(Numbers(), 4, num_workers=2, persistent_workers=True, timeout=7.0, drop_last=True)
    loader = wrap(plain, Full(), epochs=2)
    for name in ("dataset", "batch_sampler", "num_workers", "drop_last", "collate_fn", "pin_memory", "generator"):
        assert getattr(loader, name) is getattr(plain, name)
    assert (loader.timeout, loader.persistent_workers, loader.prefetch_factor) == (7.0, True, 2)
    assert not hasattr(loader, "not_there")
    assert repr(loader) == "Loader(Full, epoch 0 of 2, 40 samples)"


def test_what_is_told_of_a_run():
    loader = numbers()
    assert loader.last_loss != loader.last_loss
    batch = next(iter(loader))
    loader.reduce(loss(batch))
    assert loader.last_loss == pytest.approx(float((batch + 1.0).mean()))
    assert str(loader.stats).startswith("4 samples trained on in 1 steps; 0 scored, 4 read\nseconds: ")
    assert "deque" not in repr(loader.stats)


def test_a_loader_pickles():
    loader = numbers()
    for batch in loader:
        loader.reduce(loss(batch))
    other = pickle.loads(pickle.dumps(loader))
    assert other.epoch == 1
    assert sum(len(batch) for batch in other) == SIZE


def test_a_training_may_be_told_in_steps():
    loader = wrap(DataLoader(range(SIZE), 4, shuffle=True), InfoBatch(delta=0.5), steps=30)
    done = 0
    while done < 30:
        for batch in loader:
            loader.reduce(loss(batch))
            done += 1
            assert loader.progress == pytest.approx(done / 30)
            if done == 30:
                break
    assert len(loader.plan.indices) == SIZE  # InfoBatch's last part prunes nothing
    with pytest.raises(ValueError, match="give the length of the training as one of the two"):
        wrap(DataLoader(range(SIZE), 4), Full(), epochs=3, steps=30)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("collate", "kept"),
    [
        (default_collate, True),
        (lambda samples: torch.tensor(samples), True),
        (lambda samples: torch.tensor(samples) + torch.rand(1), True),
        (lambda samples: torch.tensor(sorted(samples)), False),
        (lambda samples: {"id": sorted(samples, reverse=True), "n": len(samples)}, False),
        (lambda samples: torch.tensor(samples)[torch.randperm(len(samples))], False),
    ],
)
def test_a_collate_fn_that_changes_the_order_is_noticed(collate, kept, workers):
    plain = DataLoader(range(SIZE), 8, collate_fn=collate, num_workers=workers)
    torch.manual_seed(4)
    expected = list(plain)
    loader = wrap(plain, Full(), epochs=1)
    torch.manual_seed(4)
    if not kept:
        with pytest.raises(ValueError, match="gives samples back in another order"):
            next(iter(loader))
        return
    assert all(torch.equal(one, other) for one, other in zip(loader, expected, strict=True))


def steps(loader, most, ahead=0):
    """A loop that counts its steps up to ``most``; progress after each."""
    seen = []
    for _ in range(50):
        if len(seen) == most:
            break
        held = []
        for batch in loader:
            held.append((loader.indices, batch))
            if len(held) > ahead and len(seen) < most:
                ids, samples = held.pop(0)
                loader.reduce(loss(samples), indices=ids)
                seen.append(loader.progress)
            if len(seen) == most:
                return seen
        for ids, samples in held[: most - len(seen)]:
            loader.reduce(loss(samples), indices=ids)
            seen.append(loader.progress)
    return seen


def test_steps_come_to_their_end_where_each_pass_gives_less_than_is_left():
    loader = wrap(DataLoader(range(SIZE), 7, shuffle=True, drop_last=True), RPD(keep_ratio=0.6), steps=11)
    assert len(steps(loader, 11)) == 11
    assert loader.progress == 1


def test_a_look_and_what_was_left_behind_are_no_steps():
    loader = wrap(DataLoader(range(SIZE), 4, shuffle=True), Full(), steps=30)
    with torch.no_grad():
        assert len(list(loader)) == 10
    assert loader.progress == 0
    for batch in loader:
        loader.reduce(loss(batch))
        with torch.no_grad():
            assert len(list(loader)) == 10
        assert loader.progress == pytest.approx(1 / 30)
        break


@pytest.mark.parametrize("stop", [1, 5, 9])
def test_steps_that_were_fetched_ahead_count_once_when_going_on(stop):
    straight, first, second = (
        wrap(DataLoader(range(SIZE), 4, generator=torch.Generator().manual_seed(1)), Full(), steps=25) for _ in range(3)
    )
    said = steps(straight, 25, ahead=2)
    steps(first, stop, ahead=2)
    second.load_state_dict(first.state_dict())
    assert steps(second, 25 - stop, ahead=2) == said[stop:]


def test_steps_need_a_length():
    class Unsized(Sampler):
        def __iter__(self):
            yield from range(SIZE)

    with pytest.raises(TypeError, match=r"steps=... needs a sampler with a length: Unsized .* by epochs="):
        wrap(DataLoader(range(SIZE), 4, sampler=Unsized()), Full(), steps=5)


@pytest.mark.parametrize(("drawn", "size"), [(25, 6), (80, 3), (13, 4)])
def test_full_training_on_drawn_samples_has_the_batches_of_plain_training(drawn, size):
    def plain():
        sampler = RandomSampler(range(SIZE), drawn > SIZE, drawn, generator=torch.Generator().manual_seed(1))
        return DataLoader(range(SIZE), size, sampler=sampler)

    assert list(map(len, wrap(plain(), Full(), epochs=2))) == list(map(len, plain()))


def test_a_selection_of_drawn_samples_leaves_no_batch_of_one():
    sampler = WeightedRandomSampler(torch.ones(SIZE), 2 * SIZE, generator=torch.Generator().manual_seed(2))
    sizes = [len(batch) for _ in range(9) for batch in numbers(RPD(keep_ratio=0.6), sampler=sampler, batch_size=3)]
    assert 4 in sizes
    assert 1 not in sizes


def test_a_rest_that_is_dropped_is_not_judged_on_its_own():
    loader = wrapped(ComposerSB(start=0.0, end=0.9, interrupt=2), batch_size=6, drop_last=True, epochs=2)
    said = len(loader)
    assert said == len([loader.reduce(loss(batch)) for batch, _ in loader])
    assert loader.stats.loaded == SIZE // 6 * 6
