"""Online methods asked about nothing, as where all scores of a batch are NaN, and what they keep in memory."""

import warnings

import pytest
import torch
from torch import Tensor

from leantrain import SB, Adonis, Batch, Loader, Selector
from toys import METHODS, SIZE, flat, losses_at, run_epoch, setup, wrapped

ONLINE = [name for name, make in METHODS.items() if "score" in make().needs and name not in ("kakurenbo", "ies")]


@pytest.mark.parametrize("history", ["empty", "full"])
@pytest.mark.parametrize("name", ONLINE)
def test_of_nothing_nothing_is_chosen(name: str, history: str) -> None:
    selector = setup(METHODS[name](), targets=torch.arange(SIZE) % 4)
    selector.plan(3, torch.arange(SIZE))
    if history == "full":
        selector.select(Batch(3, 1, torch.arange(20), losses_at(3, torch.arange(20))))
    for number in (3, 5):
        kept = selector.select(Batch(3, number, torch.empty(0, dtype=torch.int64), torch.empty(0)))
        assert kept.dtype == torch.int64
        assert kept.tolist() == []
    kept = selector.select(Batch(3, 7, torch.arange(20, 40), losses_at(3, torch.arange(20, 40))))
    assert 0 < len(kept) <= 20


@pytest.mark.parametrize("broken", [1, 4])
@pytest.mark.parametrize("name", [name for name in ONLINE if "recycled" not in name])
def test_scores_that_are_nan_at_first_end_no_training(name: str, broken: int) -> None:
    calls = []

    def score(batch: list[Tensor]) -> Tensor:
        calls.append(1)
        losses = losses_at(0, batch[0])
        return losses if len(calls) > broken else losses * torch.nan

    loader: Loader = wrapped(METHODS[name](), score=score, nonfinite="skip", shuffle=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Epoch . kept too few samples|Epoch .: .* kept too few samples")
        trained = [flat(run_epoch(loader)) for _ in range(6)]
    assert len(calls) > broken
    assert sum(map(len, trained)) > SIZE


@pytest.mark.parametrize("selector", [SB(history=50), Adonis(history=50), Adonis(history=50, half_life=3.0)])
def test_statistics_are_bounded(selector: Selector) -> None:
    setup(selector)
    for number in range(100):
        selector.select(Batch(1, number, torch.arange(40), losses_at(number, torch.arange(40))))
    held = [value for value in selector.state_dict().values() if isinstance(value, Tensor)]
    assert held
    assert all(len(value) <= 50 for value in held)
