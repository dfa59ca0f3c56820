"""The same seed gives the same run, another seed another one, and a resumed run is the straight one."""

import copy
import io
from typing import Any

import pytest
import torch

from leantrain import Loader
from toys import EACH_METHOD, METHODS, SIZE, losses_at, wrapped

EPOCHS = 6
RANDOM = ["rpc", "rpd", "rs2", "infobatch", "sb", "stale-sb", "infobatch|rs2", "rpd|stale-sb"]


def loader_of(method: str, **options: Any) -> Loader:
    generator = torch.Generator().manual_seed(9)
    return wrapped(METHODS[method](), epochs=EPOCHS, shuffle=True, generator=generator, **options)


def epoch_of(loader: Loader) -> list[Any]:
    """Indices and weighted loss of each batch."""
    given = []
    for _ in loader:
        losses = losses_at(loader.epoch, loader.indices)
        given.append((loader.indices.tolist(), float(loader.reduce(losses))))
    return given


@pytest.mark.parametrize("method", EACH_METHOD)
def test_same_seed_same_run(method: str) -> None:
    torch.manual_seed(1)
    first, loader = loader_of(method), loader_of(method)
    run = [epoch_of(first) for _ in range(EPOCHS)]
    torch.manual_seed(2)  # global streams do not matter
    assert [epoch_of(loader) for _ in range(EPOCHS)] == run


@pytest.mark.parametrize("method", RANDOM)
def test_another_seed_another_run(method: str) -> None:
    first, second = loader_of(method, seed=0), loader_of(method, seed=1)
    assert [epoch_of(first) for _ in range(EPOCHS)] != [epoch_of(second) for _ in range(EPOCHS)]


@pytest.mark.parametrize(
    ("epochs_before", "asked"),
    [
        pytest.param(epochs, asked, marks=() if (epochs, asked) in [(2, True), (5, False)] else pytest.mark.slow)
        for epochs in (1, 2, 3, 5)
        for asked in (False, True)
    ],
)
@pytest.mark.parametrize("method", EACH_METHOD)
def test_resumed_run_is_the_straight_one(method: str, epochs_before: int, asked: bool) -> None:
    straight = loader_of(method)
    for _ in range(epochs_before):
        epoch_of(straight)
    if asked:
        assert len(straight) > 0  # a progress bar asks between epochs, which must not use anything up
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    file.seek(0)

    resumed = loader_of(method)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.epoch == epochs_before
    rest = [epoch_of(straight) for _ in range(EPOCHS - epochs_before)]
    assert [epoch_of(resumed) for _ in range(EPOCHS - epochs_before)] == rest
    assert resumed.progress == straight.progress == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_the_state_is_a_copy(method: str) -> None:
    loader = loader_of(method)
    epoch_of(loader)
    state = loader.state_dict()
    before = copy.deepcopy(state)
    epoch_of(loader)

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(same, a, b))
        return torch.equal(a.nan_to_num(-9), b.nan_to_num(-9)) if isinstance(a, torch.Tensor) else a == b

    assert same(state, before)


def test_a_state_of_another_data_set_is_refused() -> None:
    state = loader_of("rpd").state_dict()
    other = wrapped(METHODS["rpd"](), range(SIZE + 1), generator=torch.Generator())
    with pytest.raises(ValueError, match=r"data set is '40 samples .*; here it is '41 samples "):
        other.load_state_dict(state)


def told(loader: Loader, states: list[Any] | None = None) -> list[Any]:
    """Epoch, indices and weighted loss of each batch until the training ends; in ``states`` the state after each."""
    given = []
    while loader.epoch < EPOCHS:
        for _ in loader:
            losses = losses_at(loader.epoch, loader.indices)
            given.append((loader.epoch, loader.indices.tolist(), float(loader.reduce(losses)), loader.progress))
            if states is not None:
                file = io.BytesIO()
                torch.save(loader.state_dict(), file)
                states.append(file)
    return given


def check_stops(method: str, steps: slice, workers: int = 0) -> None:
    """A run that stops after any of these ``steps`` goes on as if it had not, also when it stops again at once."""
    states: list[Any] = []
    straight = loader_of(method)
    whole = told(straight, states)
    assert range(len(states))[steps]
    for number, step in enumerate(range(len(states))[steps]):
        states[step].seek(0)
        resumed = loader_of(method, num_workers=workers)
        resumed.load_state_dict(torch.load(states[step], weights_only=True))
        twice = loader_of(method, num_workers=workers)
        twice.load_state_dict(resumed.state_dict())
        for loader in (resumed, twice) if number % 3 == 0 else (resumed,):
            assert told(loader) == whole[step + 1 :], step
            for name, value in straight.ledger.state_dict().items():
                assert torch.equal(value.nan_to_num(-9), loader.ledger.state_dict()[name].nan_to_num(-9)), (step, name)
            assert loader.selector.report() == straight.selector.report()
            assert loader.stats.trained == straight.stats.trained


@pytest.mark.parametrize("method", EACH_METHOD)
def test_a_run_that_stops_at_a_step_goes_on_as_if_it_had_not(method: str) -> None:
    check_stops(method, slice(0, None, 19))


@pytest.mark.parametrize("method", ["composer-sb", "grad-match-pb", "ids|adonis"])  # each in test_many_more_stops
def test_also_with_workers(method: str) -> None:
    check_stops(method, slice(15, 16), workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_many_more_stops(method: str, workers: int) -> None:
    check_stops(method, slice(1, None, 17) if workers else slice(0, None, 3), workers)


@pytest.mark.parametrize("method", ["sb", "stale adonis", "kakurenbo", "rho-loss", "class floor"])
def test_two_stops_in_one_epoch(method: str) -> None:
    straight = loader_of(method)
    whole = told(straight)
    given, state = [], None
    for stop in range(len(whole)):  # one step in each process
        loader = loader_of(method)
        if state is not None:
            loader.load_state_dict(state)
        while len(given) == stop:
            for _ in loader:
                losses = losses_at(loader.epoch, loader.indices)
                given.append((loader.epoch, loader.indices.tolist(), float(loader.reduce(losses)), loader.progress))
                state = loader.state_dict()
                break
    assert given == whole


def test_a_look_at_a_resumed_epoch_uses_nothing_up() -> None:
    straight = loader_of("sb")
    states: list[Any] = []
    whole = told(straight, states)
    states[20].seek(0)
    resumed = loader_of("sb")
    resumed.load_state_dict(torch.load(states[20], weights_only=True))
    next(iter(resumed))
    assert told(resumed) == whole[21:]


def test_a_state_that_is_none_is_refused() -> None:
    loader = loader_of("rs2")
    with pytest.raises(ValueError, match=r"not a Loader's state: it lacks .*ledger"):
        loader.load_state_dict({"epoch": 3})
    state = wrapped(METHODS["rs2"](), epochs=EPOCHS).state_dict()
    with pytest.raises(ValueError, match=r"holds 0 generators and this DataLoader has 1\. Give both the same"):
        loader.load_state_dict(state)


def test_a_selector_serves_a_second_run_afresh() -> None:
    for method in METHODS:
        selector = METHODS[method]()
        runs = []
        for _ in range(2):
            loader = wrapped(selector, epochs=3)
            runs.append([epoch_of(loader) for _ in range(3)])
        assert runs[0] == runs[1], method
