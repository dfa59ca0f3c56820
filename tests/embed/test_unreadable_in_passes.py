"""Embedding passes over data of which some samples cannot be read: the sample is named, or left out and told of."""

import dataclasses
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from leantrain import data, embed
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train

pytestmark = pytest.mark.usefixtures("shallow")

SIZE = 30
BAD = (0, 7, 8, 9, 10, 11, 29)  # with batches of 4, a whole one


class Broken(Dataset):
    """Samples of ``bad`` raise."""

    def __init__(self, bad: Any = BAD) -> None:
        self.targets = torch.arange(SIZE) % 3
        self.inputs = torch.randn(SIZE, 5, generator=torch.Generator().manual_seed(1))
        self.bad = bad

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index in self.bad:
            raise OSError(f"cannot identify image file '{index}.png'")
        return self.inputs[index], int(self.targets[index])


def model() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


PASSES: dict[str, Callable[..., Tensor]] = {
    "embed": lambda loader, **options: embed.embed(loader, embed.penultimate(model()), **options).values,
    "snapshot": lambda loader, **options: embed.snapshot(model(), loader, **options)().values,
    "delta": lambda loader, **options: embed.gradients(model(), loader, **options)().delta,
    "inputs of the last layer": lambda loader, **options: embed.gradients(model(), loader, **options)().features,
    "el2n": lambda loader, **options: embed.el2n_scores(model(), loader, **options),
    "grand": lambda loader, **options: embed.grand_scores(model(), loader, **options),
    "holdout": lambda loader, **options: embed.holdout_losses(model(), loader, F.cross_entropy, **options),
}
GOOD = torch.tensor([i not in BAD for i in range(SIZE)])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", PASSES)
def test_the_others_get_what_they_would_get_alone(name: str, workers: int) -> None:
    whole = PASSES[name](DataLoader(Broken(()), batch_size=4))
    told = r"7 of 30 samples cannot be read, the first is sample 0: OSError: cannot identify image file '0\.png'"
    with pytest.warns(UserWarning, match=told):
        found = PASSES[name](DataLoader(Broken(), batch_size=4, num_workers=workers), unreadable="skip")
    assert torch.allclose(found[GOOD], whole[GOOD], atol=1e-6)
    neutral = torch.zeros(()) if name in ("delta", "inputs of the last layer") else whole[GOOD].mean(0)
    assert torch.allclose(found[~GOOD], neutral.expand_as(found[~GOOD]), atol=1e-6)


@pytest.mark.parametrize("name", PASSES)
def test_skipping_changes_nothing_where_all_can_be_read(name: str) -> None:
    loader = DataLoader(Broken(()), batch_size=4)
    assert torch.equal(PASSES[name](loader, unreadable="skip"), PASSES[name](loader))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", PASSES)
def test_the_sample_that_stops_a_pass_is_named(name: str, workers: int) -> None:
    with pytest.raises(OSError, match="cannot identify") as caught:
        PASSES[name](DataLoader(Broken((14, 15)), batch_size=4, num_workers=workers))
    (note,) = caught.value.__notes__
    assert re.search(r"sample 14 \(index into the data set\) cannot be read\. .*unreadable=\"skip\"", note)


def test_more_than_half_is_no_matter_of_single_samples() -> None:
    loader = DataLoader(Broken(range(16)), batch_size=4)
    with pytest.raises(OSError, match=r"16 of 30 samples cannot be read.*More than half"):
        embed.embed(loader, embed.penultimate(model()), unreadable="skip")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown unreadable 'ignore'"):
        embed.embed(DataLoader(Broken()), embed.penultimate(model()), unreadable="ignore")  # pyright: ignore


def test_only_whole_features_are_kept(tmp_path: Any) -> None:
    def features(bad: Any) -> Tensor:
        loader = DataLoader(Broken(bad), batch_size=4)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* samples cannot be read")
            return embed.embed(loader, embed.penultimate(model()), cache=tmp_path, unreadable="skip").values

    features(BAD)
    assert not [*tmp_path.iterdir()]
    whole = features(())
    assert [*tmp_path.iterdir()]
    assert torch.equal(features(BAD), whole)  # kept from when all could be read


class BrokenImages(Dataset):
    def __init__(self, images: Any) -> None:
        self.images, self.targets = images, images.targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        if index % 10 == 3:
            raise ValueError("cannot identify image file")
        return self.images[index]


@pytest.mark.parametrize("method", ["ids", "grad-match", "el2n", "rho-loss"])
def test_a_training_goes_through(method: str) -> None:
    whole = data.load("digits", limit=120)
    broken = dataclasses.replace(whole, train=BrokenImages(whole.train))  # pyright: ignore[reportArgumentType]
    settings: dict[str, Any] = {
        "rho-loss": {"keep_ratio": 0.5, "scoring_batches": 2},
        "el2n": {"probe_epochs": 1},
        "grad-match": {"select_every": 1},
    }
    given = {method: settings[method]} if method in settings else {}
    config = TrainConfig(limit=120, width=4, epochs=3, batch_size=16, device="cpu", unreadable="skip", settings=given)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot be read")
        result = train(config, broken, method, 0)
    bad = torch.arange(120) % 10 == 3
    assert int(result.trained[bad].sum()) == 0
    assert int(result.trained.sum()) > 0
