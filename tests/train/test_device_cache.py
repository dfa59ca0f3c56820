"""Training on images that stay in one tensor against training on samples that are read one by one."""

import pytest
import torch

from leantrain import data
from leantrain.data import LazyDataset
from leantrain.train import device_cache
from leantrain.train.config import TrainConfig
from leantrain.train.device_cache import Resident, place
from leantrain.train.trainer import train

pytestmark = pytest.mark.usefixtures("shallow")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"limit": 150, "width": 4, "epochs": 3, "batch_size": 32, "device": "cpu"} | changes)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("full", {}),
        ("infobatch", {}),
        ("sb", {}),  # joins parts of several batches
        ("sb", {"unreadable": "skip"}),
        ("ids", {}),  # embeds in the order of the data set
        ("rho-loss", {"settings": {"rho-loss": {"keep_ratio": 0.5}}}),  # trains on halves of it
    ],
)
def test_the_same_samples_and_weights(digits, monkeypatch, method, changes):
    alone = train(config(resident=False, **changes), digits, method, seed=1)
    reads, joined = [], Resident.__getitems__
    monkeypatch.setattr(Resident, "__getitems__", lambda self, rows: reads.append(rows) or joined(self, rows))
    monkeypatch.delattr(Resident, "__getitem__")  # nothing reads one by one
    together = train(config(resident=True, **changes), digits, method, seed=1)
    assert sum(map(len, reads)) >= together.facts.loaded_samples > 0
    assert torch.equal(alone.trained, together.trained)
    pairs = zip(alone.model.state_dict().values(), together.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert (alone.facts.images, together.facts.images) == ("read one by one", "resident on cpu")


def test_where_the_images_stay(digits, monkeypatch):
    images = digits.train.images.numel()
    lazy = LazyDataset([], [], digits.targets, 8)
    assert place(config(), digits.train, CPU) == CPU
    assert place(config(resident=False), digits.train, CPU) is None
    assert place(config(workers=2), digits.train, CPU) is None
    assert place(config(workers=2, resident=True), digits.train, CPU) == CPU
    assert place(config(), lazy, CUDA) is None
    for left, expected in ((2 * images, CUDA), (2 * images - 1, CPU), (None, CPU)):
        monkeypatch.setattr(device_cache, "available", lambda device, left=left: left)
        assert place(config(), digits.train, CUDA) == expected
    monkeypatch.setattr("leantrain.utils.memory.available", lambda device: images - 1)
    with pytest.raises(ValueError, match=r"training images .* resident=off"):
        place(config(resident=True), digits.train, CUDA)
    monkeypatch.setattr("leantrain.utils.memory.available", lambda device: images)
    assert place(config(resident=True), digits.train, CUDA) == CUDA
    with pytest.raises(ValueError, match="read from files"):
        place(config(resident=True), lazy, CPU)


@pytest.mark.parametrize(("given", "meant"), [("auto", "auto"), ("on", True), ("off", False), (True, True)])
def test_the_setting_takes_words_and_what_yaml_makes_of_them(given, meant):
    assert config(resident=given).resident is meant


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["full", "sb", "ids"])
def test_on_a_gpu(digits, method):
    alone, together = (
        train(config(device="cuda", resident=resident), digits, method, seed=1) for resident in (False, True)
    )
    assert together.facts.images.startswith("resident on cuda")
    assert torch.equal(alone.trained, together.trained)
