"""Composer's Selective-Backprop against Algorithm 1 and an enumeration of its draws (references/composer_sb.py)."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import TensorDataset

import references.composer_sb as reference
from leantrain import Batch
from leantrain.methods.composer_sb import ComposerSB
from toys import SIZE, losses_at, run_epoch, setup, wrapped


def kept(losses: list[float], *, seed: int = 0, number: int = 1, **settings: Any) -> list[int]:
    selector = setup(ComposerSB(**settings), seed=seed)
    return selector.select(Batch(5, number, torch.arange(len(losses)), torch.tensor(losses))).tolist()


@given(
    size=st.integers(0, 70), keep=st.sampled_from(["0.01", "0.1", "0.3", "0.5", "0.55", "1"]), seed=st.integers(0, 9)
)
def test_keeps_a_fixed_share_without_replacement(size: int, keep: str, seed: int) -> None:
    positions = kept(torch.rand(size).tolist(), seed=seed, keep=float(keep))
    assert len(set(positions)) == len(positions) == reference.count(keep, size)
    assert positions == sorted(positions)


@pytest.mark.parametrize("keep", ["0.2", *(pytest.param(keep, marks=pytest.mark.slow) for keep in ("0.5", "0.7"))])
def test_each_sample_is_kept_with_its_probability(keep: str) -> None:
    losses = [2.0, 0.1, 0.7, 9.0, 0.3, 0.2]
    wanted = torch.tensor(reference.inclusion(losses, keep))
    times = torch.zeros(6)
    for seed in range(4000):
        times[kept(losses, seed=seed, keep=float(keep))] += 1
    spread = (wanted * (1 - wanted) / 4000).sqrt()
    assert ((times / 4000 - wanted).abs() <= 5 * spread + 1e-9).all()
    assert float(wanted.max() - wanted.min()) > 0.1


@pytest.mark.parametrize("interrupt", [0, 2, 3])
@pytest.mark.parametrize(("start", "end"), [("0.5", "0.9"), ("0", "1"), ("0.3", "0.6")])
def test_a_training_follows_algorithm_1(start: str, end: str, interrupt: int) -> None:
    epochs = 10
    loader = wrapped(
        ComposerSB(start=float(start), end=float(end), interrupt=interrupt),
        epochs=epochs,
        batch_size=6,
        shuffle=True,
    )
    scored = 0
    for epoch in range(epochs):
        given = run_epoch(loader)
        assert len(given) == 7  # as many steps as full training
        sizes = []
        for number in range(7):
            size = 6 if number < 6 else SIZE - 36
            if reference.judged(epoch, epochs, number, start=start, end=end, interrupt=interrupt):
                scored += size
                size = reference.count("0.5", size)
            sizes.append(size)
        assert [len(batch) for batch in given] == sizes
        assert len({i for batch in given for i in batch}) == sum(sizes)
        assert loader.stats.scored == scored
    assert scored > 0


def test_the_kept_are_trained_on_at_once() -> None:
    loader = wrapped(ComposerSB(start=0.0, end=1.0, interrupt=0, keep=0.3), epochs=2, batch_size=10)
    for epoch in range(2):
        given = run_epoch(loader)  # the data come in order: batch n holds 10 n to 10 n + 9
        assert [[i // 10 for i in batch] for batch in given] == [[n] * 3 for n in range(4)]
        selector = setup(ComposerSB(keep=0.3), batch_size=10, epochs=2)
        for number, batch in enumerate(given):
            indices = torch.arange(10 * number, 10 * number + 10)
            positions = selector.select(Batch(epoch, number, indices, losses_at(epoch, indices)))
            assert indices[positions].tolist() == batch


def test_keep_all_is_plain_training_without_scoring() -> None:
    loader = wrapped(ComposerSB(start=0.0, end=1.0, keep=1.0), epochs=2)
    assert [len(batch) for batch in run_epoch(loader)] == [4] * 10
    assert loader.stats.scored == 0


def test_images_are_downsized_for_the_scoring_only() -> None:
    seen = []

    def score(batch: list[Tensor]) -> Tensor:
        seen.append(tuple(batch[0].shape))
        return torch.rand(len(batch[0]))

    data = TensorDataset(torch.rand(8, 3, 16, 16), torch.arange(8))
    loader = wrapped(ComposerSB(start=0.0, interrupt=2, scale_factor=0.5), data, epochs=2, score=score)
    shapes = []
    for images, _ in loader:
        shapes.append(tuple(images.shape))
        loader.reduce(torch.ones(len(images)))
    assert seen == [(4, 3, 8, 8)] * 2  # tried on the first batch, asked about the second
    assert shapes == [(4, 3, 16, 16), (2, 3, 16, 16)]


def test_same_seed_same_choice() -> None:
    losses = torch.rand(40).tolist()
    first = kept(losses)
    torch.manual_seed(1)  # global streams do not matter
    assert kept(losses) == first
    assert kept(losses, seed=1) != first
    assert kept(losses, number=3) != first
    assert ComposerSB().state_dict() == {}  # a batch is judged by itself


def test_a_sample_that_scores_nan_is_not_kept() -> None:
    def score(batch: list[Tensor]) -> Tensor:
        return torch.where(batch[0] == 1, torch.nan, 1.0)

    loader = wrapped(
        ComposerSB(start=0.0, interrupt=0, keep=0.9), epochs=2, batch_size=4, score=score, nonfinite="skip"
    )
    given = run_epoch(loader)
    assert given[0] == [0, 2, 3]
    assert [len(batch) for batch in given[1:]] == [4] * 9


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"start": 1.5}, r"start=1\.5 is outside \[0, 1\]"),
        ({"start": 50}, r"start=50 is outside .* For 50 % pass 0\.5"),
        ({"end": 0}, r"end=0 is outside \(0, 1\]"),
        ({"start": 0.9}, r"start=0\.9 must be below end=0\.9"),
        ({"keep": 0}, r"keep=0 is outside"),
        ({"keep": 50}, r"keep=50 is outside .* For 50 % pass 0\.5"),
        ({"interrupt": -1}, r"interrupt=-1 must be at least 0"),
        ({"interrupt": 1}, r"interrupt=1 would use every batch whole\. 2 uses every second one"),
        ({"interrupt": 2.0}, r"interrupt=2\.0 must be a whole number"),
        ({"scale_factor": 0}, r"scale_factor=0 is outside \(0, 1\]"),
        ({"scale_factor": 2}, r"scale_factor=2 is outside"),
    ],
)
def test_bad_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        ComposerSB(**settings)


def test_needs_the_length_of_the_training_and_a_score() -> None:
    with pytest.raises(ValueError, match="ComposerSB depends on the length of the training"):
        setup(ComposerSB(), epochs=None)
    with pytest.raises(ValueError, match="needs a scoring function"):
        wrapped(ComposerSB(), score=None)


def test_defaults_of_the_source() -> None:
    wanted = {"start": 0.5, "end": 0.9, "keep": 0.5, "interrupt": 2, "scale_factor": 1.0}
    assert ComposerSB().settings() == wanted
    assert ComposerSB().refill is False
