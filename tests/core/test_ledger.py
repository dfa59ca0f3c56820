"""The ledger: small, exact, and restored as it was."""

import math

import pytest
import torch
from torch import Tensor

from leantrain import Ledger


def ones(count: int) -> Tensor:
    return torch.ones(count)


def train(ledger: Ledger, history: str, sample: int = 1) -> None:
    """One presentation an epoch: T right and F wrong in training, t and f in a scoring pass."""
    for epoch, event in enumerate(history):
        record = ledger.record_training if event.isupper() else ledger.record_scores
        record(epoch, torch.tensor([sample]), ones(1), torch.tensor([event in "Tt"]), ones(1))


def test_at_most_32_bytes_a_sample() -> None:
    arrays = [value for value in vars(Ledger(1000)).values() if isinstance(value, Tensor)]
    assert len(arrays) >= 7
    assert sum(array.element_size() * array.numel() for array in arrays) <= 32 * 1000


@pytest.mark.parametrize(
    ("history", "forgotten"),
    [("T", 0), ("F", 0), ("TF", 1), ("FT", 0), ("FF", 0), ("TTFFT", 1), ("TFTFTF", 3), ("FTTFTTFF", 2)],
)
def test_forgetting_events(history: str, forgotten: int) -> None:
    ledger = Ledger(3)
    train(ledger, history)
    assert ledger.forgotten.tolist() == [0, forgotten, 0]
    assert ledger.trained.tolist() == [0, len(history), 0]


@pytest.mark.parametrize(("history", "forgotten"), [("TfF", 1), ("FtF", 0), ("TtfF", 1), ("tF", 0), ("TfT", 0)])
def test_forgetting_counts_training_presentations_only(history: str, forgotten: int) -> None:
    """Right at one training presentation, wrong at the next: scoring passes between do not matter."""
    ledger = Ledger(3)
    train(ledger, history)
    assert ledger.forgotten.tolist() == [0, forgotten, 0]


def test_last_facts_win() -> None:
    ledger = Ledger(4)
    ledger.record_training(0, torch.tensor([2, 0]), torch.tensor([0.5, 1.5]))
    ledger.record_scores(1, torch.tensor([2, 3]), torch.tensor([0.7, 0.9]))
    ledger.record_training(2, torch.tensor([3]), torch.tensor([0.1]))
    assert ledger.loss.nan_to_num(-1).tolist() == pytest.approx([1.5, -1, 0.7, 0.1])
    assert ledger.loss_epoch.tolist() == [0, -1, 1, 2]
    assert ledger.score.nan_to_num(-1).tolist() == pytest.approx([-1, -1, 0.7, 0.9])
    assert ledger.score_epoch.tolist() == [-1, -1, 1, 1]
    assert ledger.trained.tolist() == [1, 0, 1, 1]
    assert ledger.trained_epoch.tolist() == [0, -1, 0, 2]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("record", ["record_training", "record_scores"])
def test_a_broken_loss_leaves_the_earlier_one(record: str, broken: float) -> None:
    ledger = Ledger(3)
    getattr(ledger, record)(0, torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
    getattr(ledger, record)(1, torch.tensor([1, 0]), torch.tensor([broken, 3.0]))
    assert ledger.loss[:2].tolist() == [3, 2]
    assert ledger.loss_epoch.tolist() == [1, 0, -1]
    assert ledger.score.isinf().sum() == 0


def test_a_sample_twice_in_a_batch_counts_twice() -> None:
    ledger = Ledger(2)
    ledger.record_training(0, torch.tensor([1, 1]), ones(2))
    assert ledger.trained.tolist() == [0, 2]


@pytest.mark.parametrize(("epoch", "age", "current"), [(4, 1, False), (4, 2, True), (3, 1, True), (5, 2, False)])
def test_age_of_scores(epoch: int, age: int, current: bool) -> None:
    ledger = Ledger(5)
    ledger.record_scores(3, torch.arange(3), ones(3))
    assert ledger.scored_within(torch.arange(3), epoch, age) is current
    assert not ledger.scored_within(torch.arange(4), epoch, age)


def test_training_losses_are_not_scores() -> None:
    ledger = Ledger(2)
    ledger.record_training(0, torch.arange(2), ones(2))
    assert not ledger.scored_within(torch.arange(2), 0, 1)


def test_state_round_trip() -> None:
    ledger, other = Ledger(4), Ledger(4)
    train(ledger, "TFtTF", sample=2)
    other.load_state_dict(ledger.state_dict())
    expected = {name: value for name, value in vars(ledger).items() if isinstance(value, Tensor)}
    for name, value in expected.items():
        assert torch.equal(value.nan_to_num(-7), getattr(other, name).nan_to_num(-7)), name
        assert value.dtype == getattr(other, name).dtype


def test_state_is_a_copy() -> None:
    ledger = Ledger(2)
    state = ledger.state_dict()
    train(ledger, "T")
    assert state["trained"].sum() == 0


def test_a_state_that_lacks_an_array_is_refused() -> None:
    state = Ledger(2).state_dict()
    del state["score"]
    with pytest.raises(ValueError, match=r"'score' has shape nothing; this data set needs \(2,\)"):
        Ledger(2).load_state_dict(state)


def test_more_epochs_than_16_bits_count() -> None:
    ledger = Ledger(2)
    for epoch in (32_767, 32_768, 100_000):
        ledger.record_training(epoch, torch.tensor([1]), ones(1))
        ledger.record_scores(epoch, torch.tensor([0]), ones(1))
    assert ledger.trained_epoch.tolist() == [-1, 100_000]
    assert ledger.score_epoch.tolist() == [100_000, -1]
    assert ledger.loss_epoch.tolist() == [100_000, 100_000]
    assert ledger.scored_within(torch.tensor([0]), 100_000, 1)


def test_forgetting_events_stop_at_the_most_that_16_bits_hold() -> None:
    ledger = Ledger(3)
    twice = torch.tensor([1, 2, 1])
    for _ in range(3):
        ledger.record_training(0, twice, ones(3), torch.tensor([True] * 3), ones(3))
        ledger.forgotten[1] = max(int(ledger.forgotten[1]), 2**15 - 2)
        ledger.record_training(1, twice, ones(3), torch.tensor([False] * 3), ones(3))
    assert ledger.forgotten.tolist() == [0, 2**15 - 1, 3]


def test_a_state_with_epochs_of_16_bits_is_taken_over() -> None:
    """As checkpoints of earlier versions have it."""
    ledger = Ledger(3)
    train(ledger, "TFt")
    state = ledger.state_dict()
    for name in ("loss_epoch", "score_epoch", "trained_epoch"):
        state[name] = state[name].to(torch.int16)
    other = Ledger(3)
    other.load_state_dict(state)
    assert other.loss_epoch.tolist() == ledger.loss_epoch.tolist()
    other.record_training(40_000, torch.tensor([1]), ones(1))
    assert other.trained_epoch.tolist() == [-1, 40_000, -1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_losses_of_other_types(dtype: torch.dtype) -> None:
    ledger, values = Ledger(2), torch.tensor([0.5, 0.25], dtype=dtype)
    ledger.record_training(0, torch.arange(2), values, torch.tensor([True, False]), values)
    ledger.record_scores(0, torch.arange(2), values)
    for array in (ledger.loss, ledger.score, ledger.confidence):
        assert array.dtype == torch.float32
        assert array.tolist() == [0.5, 0.25]
