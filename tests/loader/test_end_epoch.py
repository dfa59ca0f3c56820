"""An epoch ends alike in a ``for`` loop and where a framework stops after the last batch and says so."""

import copy
from typing import Any

import pytest

from leantrain import Kakurenbo, Loader
from toys import METHODS, losses_at, run_epoch, wrapped

EPOCHS = 4


def counted(loader: Loader, batches: int) -> list[list[int]]:
    """An epoch of at most ``batches`` batches; nobody asks for one more."""
    source, given = iter(loader), []
    for _ in range(batches):
        next(source)
        given.append(loader.indices.tolist())
        loader.reduce(losses_at(loader.epoch, loader.indices))
    loader.end_epoch()
    return given


def facts(loader: Loader) -> Any:
    ledger = {name: value.nan_to_num(-7).tolist() for name, value in loader.ledger.state_dict().items()}
    return copy.deepcopy((loader.epoch, ledger, loader.selector.report(), loader.stats.scored))


@pytest.mark.parametrize(
    ("method", "workers"),
    [
        *((method, 0) for method in ("full", "infobatch", "kakurenbo", "ies")),
        ("kakurenbo", 2),
        *(pytest.param(method, 2, marks=pytest.mark.slow) for method in ("full", "infobatch", "ies")),
    ],
)
def test_stopping_after_the_last_batch_is_as_a_for_loop(method: str, workers: int) -> None:
    whole, stopped = (wrapped(METHODS[method](), epochs=EPOCHS, num_workers=workers) for _ in range(2))
    for _ in range(EPOCHS):
        assert counted(stopped, len(stopped)) == run_epoch(whole)
        assert facts(stopped) == facts(whole)
    assert whole.stats.scored > 0 or method != "kakurenbo"


def test_in_the_middle_of_an_epoch_it_ends_too() -> None:
    loader = wrapped(METHODS["full"]())
    assert counted(loader, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert loader.epoch == 1
    assert run_epoch(loader)[0] == [0, 1, 2, 3]


def test_without_a_training_step_nothing_ends() -> None:
    loader = wrapped(METHODS["full"]())
    loader.end_epoch()
    source = iter(loader)
    next(source)
    loader.end_epoch()
    assert loader.epoch == 0


def test_an_iterator_that_was_made_and_not_used_begins_nothing() -> None:
    """Lightning makes some, to see whether it can."""
    loader = wrapped(METHODS["full"]())
    source = iter(loader)
    next(source)
    loader.reduce(losses_at(0, loader.indices))
    unused = iter(loader)
    loader.end_epoch()
    assert loader.epoch == 1
    assert loader.dataset.reads == loader.indices.tolist() == [0, 1, 2, 3]
    del source, unused


def test_an_epoch_left_before_its_refresh_is_told_of() -> None:
    loader = wrapped(Kakurenbo(fraction=0.5, move_back=False), epochs=EPOCHS)
    run_epoch(loader)
    for _ in loader:
        loader.reduce(losses_at(loader.epoch, loader.indices))
        break
    with pytest.warns(UserWarning, match=r"Epoch 1 was left before Kakurenbo had the losses of \d+ samples refreshed"):
        run_epoch(loader)
    assert loader.epoch == 3
