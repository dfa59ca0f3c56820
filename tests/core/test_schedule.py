"""ProgressLR against torch's LambdaLR, alone and among other schedulers; what is said of rates that train nothing."""

import io
import warnings
from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR, LambdaLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader

from leantrain import SB, Full, Plan, ProgressLR, Selector, wrap
from leantrain.schedule import constant, linear_peak, warn_past_end, warn_unfinished

STEPS, EPOCHS = 8, 3  # of an epoch, of the training


class Faster(Selector):
    """Asks for another learning rate in each epoch."""

    def __init__(self, first=1.0):
        super().__init__()
        self.first = first

    def plan(self, epoch, pool):
        return Plan(pool, lr_factor=self.first + epoch)


def fresh(selector=None, rate=0.5, epochs=EPOCHS):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=rate)
    return wrap(DataLoader(range(8 * STEPS), batch_size=8), selector or Full(), epochs=epochs), optimizer


def step(loader, batch, optimizer):
    loader.reduce(batch * 0 + optimizer.param_groups[0]["params"][0].sum()).backward()
    optimizer.step()
    optimizer.zero_grad()


def rates(loader, optimizer, schedule, after: Callable[[], None] = lambda: None, stop: int = STEPS) -> list[float]:
    """That of each step."""
    found = []
    for _ in range(EPOCHS):
        for number, batch in enumerate(loader, start=1):
            found.append(optimizer.param_groups[0]["lr"])
            step(loader, batch, optimizer)
            after()
            schedule.step()
            if number == stop:
                break
    return found


AMONG = {
    "alone": lambda optimizer, own: own,
    "after a warm-up": lambda optimizer, own: SequentialLR(optimizer, [LinearLR(optimizer, 0.1, 1.0, 10), own], [10]),
    "before others": lambda optimizer, own: SequentialLR(
        optimizer, [own, ConstantLR(optimizer, 1.0), ExponentialLR(optimizer, 0.9)], [5, 14]
    ),
    "chained first": lambda optimizer, own: ChainedScheduler([own, ExponentialLR(optimizer, 0.9)]),
    "chained last": lambda optimizer, own: ChainedScheduler([LinearLR(optimizer, 0.1, 1.0, 10), own]),
}


@pytest.mark.parametrize("among", AMONG.values(), ids=list(AMONG))
@pytest.mark.parametrize("factor", [constant(), linear_peak(0.2), linear_peak(0.0)], ids=["constant", "peak", "fall"])
def test_among_other_schedulers_it_is_a_lambda_lr_of_the_progress(among, factor):
    loader, optimizer = fresh()
    ours = rates(loader, optimizer, among(optimizer, ProgressLR(optimizer, loader, factor)))
    done = [0]
    loader, optimizer = fresh()
    plain = LambdaLR(optimizer, lambda _: factor(done[0] / (STEPS * EPOCHS)))
    expected = rates(loader, optimizer, among(optimizer, plain), lambda: done.__setitem__(0, done[0] + 1))
    assert len(ours) == STEPS * EPOCHS
    assert ours == pytest.approx(expected, rel=1e-12)


def test_a_chain_keeps_its_factors_where_the_method_asks_for_another_rate():
    loader, optimizer = fresh(Faster())
    schedule = ChainedScheduler([ProgressLR(optimizer, loader, constant()), ExponentialLR(optimizer, 0.9)])
    found = rates(loader, optimizer, schedule)
    assert found[0] == 0.5
    assert found[1:] == pytest.approx([0.9 * 0.5 * (1 + n // STEPS) for n in range(1, STEPS * EPOCHS)])


def test_a_warm_up_is_left_alone_where_the_method_asks_for_another_rate():
    loader, optimizer = fresh(Faster(first=2.0))
    own = ProgressLR(optimizer, loader, constant())
    found = rates(loader, optimizer, SequentialLR(optimizer, [LinearLR(optimizer, 0.1, 1.0, 10), own], [10]))
    assert found[:10] == pytest.approx([0.5 * (0.1 + 0.09 * n) for n in range(10)])
    assert found[10:] == pytest.approx([0.5 * (2 + n // STEPS) for n in range(10, STEPS * EPOCHS)])


def test_after_a_break_an_epoch_begins_with_its_own_rate():
    loader, optimizer = fresh()
    found = rates(loader, optimizer, ProgressLR(optimizer, loader, linear_peak(0.0)), stop=5)
    progress = [(epoch + n / STEPS) / EPOCHS for epoch in range(EPOCHS) for n in range(5)]
    assert found == pytest.approx([0.5 * (1 - p) for p in progress])


def test_a_group_added_later_follows_with_its_own_rate():
    loader, optimizer = fresh()
    schedule = ProgressLR(optimizer, loader, linear_peak(0.0))
    for epoch in range(EPOCHS):
        if epoch == 1:
            optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.1})
        for batch in loader:
            expected = [base * (1 - schedule.last_epoch / (STEPS * EPOCHS)) for base in (0.5, 0.1)[: 1 + (epoch > 0)]]
            assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)
            assert schedule.get_last_lr() == pytest.approx(expected)
            step(loader, batch, optimizer)
            schedule.step()
    assert schedule.last_epoch == STEPS * EPOCHS


def test_with_one_step_an_epoch_the_rate_is_that_of_the_epoch_s_start():
    loader, optimizer = fresh()
    schedule, found = ProgressLR(optimizer, loader, linear_peak(0.0)), []
    for _ in range(EPOCHS):
        for batch in loader:
            found.append(optimizer.param_groups[0]["lr"])
            step(loader, batch, optimizer)
        schedule.step()
    assert found == pytest.approx([0.5 * (1 - n // STEPS / EPOCHS) for n in range(STEPS * EPOCHS)])


def test_steps_in_a_row_at_a_rate_of_0_are_said():
    loader, optimizer = fresh()
    schedule, batches = ProgressLR(optimizer, loader, linear_peak(0.2)), iter(loader)
    step(loader, next(batches), optimizer)
    with pytest.warns(UserWarning, match=r"second optimizer step in a row at a learning rate of 0"):
        step(loader, next(batches), optimizer)
    step(loader, next(batches), optimizer)  # said once
    schedule.step()
    assert optimizer.param_groups[0]["lr"] > 0


@pytest.mark.parametrize("its_state", [True, False])
@pytest.mark.parametrize("factor", [constant(), linear_peak(0.2)], ids=["constant", "peak"])
def test_going_on_gives_the_same_rates(its_state, factor):
    loader, optimizer = fresh(Faster())
    expected = rates(loader, optimizer, ProgressLR(optimizer, loader, factor))
    loader, optimizer = fresh(Faster())
    schedule, found = ProgressLR(optimizer, loader, factor), []
    for epoch in range(EPOCHS):
        for number, batch in enumerate(loader):
            found.append(optimizer.param_groups[0]["lr"])
            step(loader, batch, optimizer)
            schedule.step()
            if (epoch, number) == (1, 3):
                break
        if epoch == 1:
            break
    file = io.BytesIO()
    torch.save([schedule.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    state, (its, rate) = loader.state_dict(), torch.load(file, weights_only=True)
    loader, optimizer = fresh(Faster())
    schedule = ProgressLR(optimizer, loader, factor)
    loader.load_state_dict(state)
    optimizer.load_state_dict(rate)
    if its_state:
        schedule.load_state_dict(its)
    while loader.epoch < EPOCHS:
        for batch in loader:
            found.append(optimizer.param_groups[0]["lr"])
            step(loader, batch, optimizer)
            schedule.step()
    assert found == expected
    assert schedule.last_epoch == STEPS * EPOCHS - (0 if its_state else STEPS + 4)


def test_a_rate_that_is_a_tensor_stays_that_tensor():
    loader, optimizer = fresh(Faster(), torch.tensor(0.5))
    rate = optimizer.param_groups[0]["lr"]
    schedule = ProgressLR(optimizer, loader, linear_peak(0.0))
    for epoch in range(2):
        for number, batch in enumerate(loader):
            assert optimizer.param_groups[0]["lr"] is rate
            assert float(rate) == pytest.approx(0.5 * (1 + epoch) * (1 - (epoch * STEPS + number) / (STEPS * EPOCHS)))
            step(loader, batch, optimizer)
            schedule.step()


class Wrapper(torch.optim.Optimizer):
    """As frameworks wrap optimizers: without hooks of its own."""

    def __init__(self, inner, name):
        setattr(self, name, inner)
        self.inner = inner

    @property
    def param_groups(self):
        return self.inner.param_groups

    def step(self):
        self.inner.step()

    def zero_grad(self):
        self.inner.zero_grad()


@pytest.mark.parametrize("name", ["optimizer", "wrapped"])
def test_an_optimizer_without_hooks_is_followed_too(name):
    loader, optimizer = fresh()
    optimizer = Wrapper(optimizer, name)
    found = rates(loader, optimizer, ProgressLR(optimizer, loader, linear_peak(0.0)))
    assert found == pytest.approx([0.5 * (1 - n / (STEPS * EPOCHS)) for n in range(STEPS * EPOCHS)])


def test_a_training_past_its_length_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_past_end(2, 3)
        warn_past_end(2, 2.5)  # the last epoch is cut short
    for epoch, epochs in ((3, 3), (3, 2.5), (7, 3)):
        with pytest.warns(UserWarning, match=rf"Epoch {epoch}, counted from 0, is past the {epochs} epochs"):
            warn_past_end(epoch, epochs)


@pytest.mark.parametrize(
    ("told", "taken", "following", "epochs", "to_come", "whole"),
    [(29, 22, 22, 8, 154, 176), (29, 29, 20, 10, 180, 209), (100, 50, 60, 2.5, 90, 140), (2, 2, 4, 3, 8, 10)],
)
def test_a_schedule_that_will_not_finish_is_said_with_the_steps_to_come(told, taken, following, epochs, to_come, whole):
    with pytest.warns(UserWarning, match=rf"about {to_come} steps are to come, {whole} in all.*ProgressLR"):
        warn_unfinished(told, taken, following, epochs)


@pytest.mark.parametrize(
    ("told", "taken", "following", "epochs"), [(29, 29, 29, 8), (29, 22, 22, 1), (400, 399, 399, 9)]
)
def test_a_schedule_that_finishes_is_not_warned_about(told, taken, following, epochs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_unfinished(told, taken, following, epochs)


class Halved(Selector):
    """Everything in the first epoch, half of it in the others."""

    def plan(self, epoch, pool):
        return Plan(pool if epoch == 0 else pool[::2])


def trained(loader, epochs, bar=False):
    """What is warned about in which epoch, and where."""
    found = []
    for epoch in range(epochs):
        if bar:  # as tqdm does
            len(loader)
        for batch in loader:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                loader.reduce(batch * torch.ones((), requires_grad=True))
            found += [(epoch, str(one.message), one.filename) for one in said]
    return found


def test_training_past_the_end_is_said_once_where_the_loop_stands():
    loader, _ = fresh()
    assert trained(loader, EPOCHS) == []
    [(epoch, text, place)] = trained(loader, 3)
    assert (epoch, place) == (0, __file__)
    assert "Epoch 3, counted from 0, is past the 3 epochs" in text
    loader, _ = fresh(epochs=1.5)
    assert [epoch for epoch, *_ in trained(loader, 4)] == [2]


def test_to_look_at_batches_after_the_end_is_no_training():
    loader, _ = fresh()
    trained(loader, EPOCHS)
    with torch.no_grad():
        assert sum(1 for _ in loader) == STEPS


@pytest.mark.parametrize("bar", [False, True])
def test_a_schedule_over_the_length_is_told_of_the_steps_to_come(bar):
    loader, _ = fresh(Halved())
    steps = len(loader) * EPOCHS
    [(epoch, text, place)] = trained(loader, EPOCHS, bar)
    assert (epoch, place, steps) == (1, __file__, 24)
    assert (
        "24 steps in 3 epochs. The first epoch took 8 and the next takes about 4, so about 8 steps are to come" in text
    )
    assert loader.stats.steps == 16


def test_of_batches_chosen_as_they_come_the_first_epoch_tells_the_next():
    loader = wrap(DataLoader(range(64), 8), SB(start_epoch=0, beta=1.0), score=lambda batch: batch.float(), epochs=3)
    assert len(loader) == 8
    [(epoch, text, _)] = trained(loader, 3)
    first = int(text.split("first epoch took ")[1].split()[0])
    assert epoch == 1
    assert 1 < first < 8
    assert f"about {2 * first} steps are to come, {3 * first} in all" in text


@pytest.mark.parametrize("why", ["a bar", "progress", "steps", "not asked", "as long"])
def test_who_counts_no_steps_is_told_nothing(why):
    loader, optimizer = fresh(Full() if why == "as long" else Halved())
    if why == "steps":
        loader = wrap(DataLoader(range(64), 8), Halved(), steps=16)
    if why == "progress":
        ProgressLR(optimizer, loader, constant())
    if why not in ("a bar", "not asked"):
        len(loader)
    assert trained(loader, EPOCHS, bar=why == "a bar") == []
