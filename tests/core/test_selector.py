"""What a method can ask of the loader beyond a plan and a choice: refresh, own batches, learning rate and more."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from leantrain import RS2, Adonis, Plan, ProgressLR, Selector, wrap
from toys import SIZE, Numbers, flat, losses_at, run_epoch, wrapped


class Planned(Selector):
    """Plans what it is told to; keeps a log of the calls."""

    needs = frozenset({"score"})

    def __init__(self, **plan) -> None:
        self.given = plan
        self.log: list = []

    def plan(self, epoch, pool):
        return Plan(**({"indices": pool} | self.given))

    def end_epoch(self, epoch):
        self.log.append(("end", epoch, self.run.ledger.score.isfinite().sum().item()))


class Choosing(Selector):
    """Keeps the even positions of each batch that it judges."""

    needs = frozenset({"score"})

    def __init__(self, skip_every: int = 0, **attributes) -> None:
        self.skip_every = skip_every
        self.passed: list[int] = []
        self.judged: list[Tensor] = []
        vars(self).update(attributes)

    def loss_age(self, epoch):
        return 1

    def judges(self, epoch, number):
        return not self.skip_every or number % self.skip_every != 0

    def pass_over(self, epoch, number, indices):
        self.passed.append(number)

    def select(self, batch):
        self.judged.append(batch.indices)
        return torch.arange(0, len(batch.indices), 2)


def test_refreshed_samples_are_scored_after_the_last_step_and_not_trained_on():
    hidden = torch.tensor([3, 7, 8, 20, 21])
    rest = torch.tensor([i for i in range(SIZE) if i not in hidden.tolist()])
    selector = Planned(indices=rest, refresh=hidden)
    loader = wrapped(selector)
    given = run_epoch(loader)
    assert sorted(flat(given)) == rest.tolist()
    ledger = loader.ledger
    assert ledger.score_epoch.eq(0).nonzero().flatten().tolist() == hidden.tolist()
    assert torch.equal(ledger.loss[hidden], losses_at(0, hidden))
    assert ledger.trained[hidden].sum() == 0
    assert (loader.stats.scored, loader.stats.loaded, loader.stats.trained) == (5, 40, 35)
    assert selector.log == [("end", 0, 5)]  # the epoch ends after the refresh


@pytest.mark.parametrize("workers", [0, 2])
def test_the_last_step_comes_before_the_refresh(workers):
    """A refresh must see the model after the epoch's last step, however far the workers prefetch."""
    loader = wrapped(Planned(indices=torch.arange(8), refresh=torch.arange(8, 16)), num_workers=workers)
    for _ in loader:
        assert loader.stats.scored == 0
        loader.reduce(losses_at(0, loader.indices))
    assert loader.stats.scored == 8


def test_a_refresh_without_a_scoring_function_is_refused():
    class Silent(Planned):
        needs = frozenset()

    loader = wrapped(Silent(refresh=torch.arange(3)), score=None)
    with pytest.raises(ValueError, match="score="):
        run_epoch(loader)


def test_a_refresh_that_tells_less_than_the_method_needs_is_refused():
    class Judging(Planned):
        needs = frozenset({"score", "correct"})

    loader = wrapped(Judging(refresh=torch.arange(3)))  # its scoring function gives losses only
    with pytest.raises(ValueError, match="scoring function tells losses only"):
        next(iter(loader))  # not once the epoch is trained and the refresh is due


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_own_batches_are_trained_as_they_are(shuffle, workers):
    indices = torch.tensor([9, 1, 30, 4, 4, 17, 2])
    loader = wrapped(Planned(indices=indices, batch_sizes=(3, 1, 3)), shuffle=shuffle, num_workers=workers)
    assert len(loader) == 3
    assert run_epoch(loader) == [[9, 1, 30], [4], [4, 17, 2]]


def test_own_batches_stay_whole_in_a_last_epoch_that_is_cut_short():
    loader = wrapped(Planned(batch_sizes=(10,) * 4), epochs=0.6)
    assert len(loader) == 3
    assert run_epoch(loader) == [list(range(10)), list(range(10, 20)), list(range(20, 30))]


def test_own_batches_refuse_a_custom_sampler():
    from torch.utils.data import WeightedRandomSampler

    sampler = WeightedRandomSampler([1.0] * SIZE, SIZE)
    with pytest.raises(ValueError, match="makes its own batches"):
        run_epoch(wrapped(Planned(batch_sizes=(20, 20)), sampler=sampler))


def test_own_batches_must_hold_the_plan():
    for sizes in ((3, 4), (SIZE, 0)):
        with pytest.raises(ValueError, match="each must hold some"):
            run_epoch(wrapped(Planned(batch_sizes=sizes)))


@pytest.mark.parametrize("workers", [0, 2])
def test_without_refill_what_is_kept_is_trained_at_once(workers):
    loader = wrapped(Choosing(refill=False), batch_size=8, num_workers=workers)
    assert run_epoch(loader) == [list(range(start, start + 8, 2)) for start in range(0, SIZE, 8)]
    assert len(loader.state_dict()["open"]) == 0


def test_without_refill_stored_losses_give_small_batches_too():
    class Stale(Choosing):
        def loss_age(self, epoch):
            return 2

    loader = wrapped(Stale(refill=False), batch_size=8)
    first, second = run_epoch(loader), run_epoch(loader)
    assert first == second
    assert {len(batch) for batch in second} == {4}
    assert loader.stats.scored == SIZE


@pytest.mark.parametrize("refill", [False, True])
def test_batches_that_are_not_judged_are_used_whole_and_not_scored(refill):
    selector = Choosing(skip_every=2, refill=refill)
    loader = wrapped(selector, batch_size=8, epochs=1)
    given = run_epoch(loader)
    assert selector.passed == [0, 2, 4]
    assert sorted(flat(given)) == sorted(
        [*range(8), *range(8, 16, 2), *range(16, 24), *range(24, 32, 2), *range(32, 40)]
    )
    assert loader.stats.scored == 16
    assert [len(batch) for batch in given] == ([8, 4, 8, 4, 8] if not refill else [8, 8, 8, 8])


def test_several_batches_are_judged_as_one():
    selector = Choosing(scoring_batches=3)
    loader = wrapped(selector, batch_size=8)
    given = run_epoch(loader)
    assert [len(judged) for judged in selector.judged] == [24, 16]
    assert flat(given) == list(range(0, 32, 2))  # 20 are kept; the last 4 wait in the open batch
    assert [len(batch) for batch in given] == [8, 8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_images_are_scored_at_a_smaller_size_and_trained_at_their_own(dtype):
    images = (torch.rand(6, 3, 8, 8) * 255).to(dtype)
    scored = []

    def score(batch):
        scored.append(batch[0])
        return torch.ones(len(batch[1]))

    loader = DataLoader(TensorDataset(images, torch.arange(6)), batch_size=6)
    for x, labels in wrap(loader, Choosing(scale_factor=0.5, refill=False), score=score):
        assert torch.equal(x, images[labels])
    assert scored[0].shape == (6, 3, 4, 4)
    assert scored[0].dtype == dtype
    assert abs(scored[0].float().mean() - images.float().mean()) < 6


def test_the_learning_rate_follows_the_plan_from_the_first_step_on():
    class Faster(Selector):
        def plan(self, epoch, pool):
            return Plan(pool, lr_factor=1.0 + epoch)

    loader = wrapped(Faster(), epochs=3, batch_size=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = ProgressLR(optimizer, loader, lambda progress: 1 - progress / 2)
    rates = []
    for epoch in range(3):
        for step, _ in enumerate(loader):
            rates.append((epoch, step, optimizer.param_groups[0]["lr"], schedule.get_last_lr()[0]))
            loader.reduce(losses_at(0, loader.indices))
            optimizer.step()
            schedule.step()
    for epoch, step, rate, said in rates:
        progress = (epoch + step / 4) / 3
        assert rate == said == pytest.approx(0.5 * (1 + epoch) * (1 - progress / 2))
    assert loader.lr_factor == 1


def test_a_learning_rate_that_nobody_follows_is_said_once():
    def fresh():
        return wrap(DataLoader(Numbers(), batch_size=4), Planned(lr_factor=1.5), score=lambda batch: torch.ones(4))

    loader = fresh()
    with pytest.warns(UserWarning, match=r"1\.5 times the learning rate"):
        run_epoch(loader)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_epoch(loader)
        other = fresh()
        for _ in other:
            assert other.lr_factor == 1.5
            other.reduce(losses_at(0, other.indices))


def test_a_chain_joins_what_its_parts_ask_for():
    left = Planned(indices=torch.arange(30), refresh=torch.arange(30, 35), lr_factor=2.0)
    right = Planned(indices=torch.arange(20), refresh=torch.arange(20, 30), lr_factor=1.5, batch_sizes=(5,) * 4)
    chain = left | right
    loader = wrapped(chain)
    assert loader.plan.lr_factor == 3
    assert loader.plan.refresh is not None
    assert loader.plan.refresh.tolist() == [*range(30, 35), *range(20, 30)]
    assert loader.plan.batch_sizes == (5,) * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_epoch(loader)
    assert left.log == right.log == [("end", 0, 15)]


def test_in_a_chain_each_part_judges_its_own_batches():
    left, right = Choosing(skip_every=2), Choosing(skip_every=3, refill=False, scale_factor=0.5)
    chain = left | right
    assert (chain.refill, chain.scale_factor, chain.scoring_batches) == (False, 0.5, 1)
    loader = wrapped(chain, batch_size=8)
    given = run_epoch(loader)
    # Batch 0: neither; 1 and 5: both; 2 and 4: the right; 3: the left.
    assert [len(batch) for batch in given] == [8, 2, 4, 4, 4]
    assert left.passed == [0, 2, 4]
    assert right.passed == [0, 3]


def test_an_epoch_that_is_left_early_ends_when_the_next_begins():
    selector = Planned()
    loader = wrapped(selector)
    for _ in loader:
        loader.reduce(losses_at(0, loader.indices))
        break
    assert selector.log == []
    run_epoch(loader)
    assert [entry[:2] for entry in selector.log] == [("end", 0), ("end", 1)]


def test_a_data_set_reads_only_what_is_planned_and_refreshed():
    data = Numbers()
    loader = wrapped(Planned(indices=torch.arange(8), refresh=torch.tensor([20, 21])), data)
    run_epoch(loader)
    assert sorted(data.reads) == [*range(8), 20, 21]


def test_larger_scoring_batches_go_on_to_fill_batches_of_the_same_size():
    loader = wrapped(RS2(keep_ratio=0.9) | Adonis(theta="auto", scoring_batches=4), batch_size=4)
    assert {len(batch) for epoch in range(3) for batch in run_epoch(loader)} == {4}
