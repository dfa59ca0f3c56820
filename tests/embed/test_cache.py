"""Cached features: used while data, weights and preprocessing are what they were; else made again, with a message."""

import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from leantrain.embed import Features, embed, penultimate, snapshot

MADE_AGAIN = "are made again"


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


class Counted:
    """An extractor that counts the samples it is asked for."""

    def __init__(self, model, forward=None):
        self.inner, self.samples = penultimate(model, forward=forward), 0

    def __call__(self, batch):
        self.samples += len(batch[0])
        return self.inner(batch)

    def fingerprint(self):
        return self.inner.fingerprint()


def run(model, data, cache, forward=None):
    """The features and how many samples went through the model for them."""
    counted = Counted(model, forward)
    return embed(DataLoader(TensorDataset(data), batch_size=8), counted, name="mine", cache=cache), counted.samples


def test_the_second_time_only_the_first_batch_is_embedded(model, tmp_path):
    data = torch.randn(30, 4)
    first, samples = run(model, data, tmp_path / "new" / "cache")
    assert samples == 8 + 30
    again, samples = run(model, data, tmp_path / "new" / "cache")
    assert samples == 8
    assert torch.equal(again.values, first.values)
    assert (again.fingerprint, again.extractor) == (first.fingerprint, "mine")
    assert torch.equal(first.values, run(model, data, None)[0].values)


@pytest.mark.parametrize("change", ["weight", "buffer", "layer"])
def test_other_weights_have_a_cache_of_their_own(model, tmp_path, change, caplog):
    data = torch.randn(30, 4)
    before, _ = run(model, data, tmp_path)
    if change == "layer":
        model = nn.Sequential(model, nn.Linear(3, 2))
    else:
        tensor = model[0].weight if change == "weight" else model[1].running_mean
        tensor.data[2] += 1e-4  # less than the check of the first batch can see
    after, samples = run(model, data, tmp_path)
    assert samples == 8 + 30
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(before.values, after.values)
    assert not caplog.records


@pytest.mark.parametrize("change", ["data", "preprocessing"])
def test_what_the_key_does_not_show_the_first_batch_does(model, tmp_path, change, caplog):
    data = torch.randn(30, 4)
    run(model, data, tmp_path)
    if change == "data":
        data = data + 0.1
    forward = (lambda model, batch: model(batch[0] * 2)) if change == "preprocessing" else None
    with caplog.at_level(logging.WARNING, "leantrain"):
        made, samples = run(model, data, tmp_path, forward)
    assert samples == 8 + 30
    assert MADE_AGAIN in caplog.text
    assert "Did the preprocessing or the data change?" in caplog.text
    assert torch.equal(made.values, run(model, data, None, forward)[0].values)
    assert run(model, data, tmp_path, forward)[1] == 8


def test_a_longer_data_set_has_another_fingerprint(model, tmp_path):
    data = torch.randn(30, 4)
    run(model, data, tmp_path)
    assert run(model, torch.cat([data, data]), tmp_path)[1] == 8 + 60


@pytest.mark.parametrize("damage", ["torn", "text", "short", "of other data"])
def test_a_damaged_cache_is_made_again(model, tmp_path, damage, caplog):
    data = torch.randn(30, 4)
    whole, _ = run(model, data, tmp_path)
    (file,) = tmp_path.iterdir()
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "text":
        file.write_text("nothing of the kind")
    elif damage == "short":
        Features(whole.values[:-1], whole.fingerprint).save(file)
    else:
        Features(whole.values, "e" * 32).save(file)
    with caplog.at_level(logging.WARNING, "leantrain"):
        made, samples = run(model, data, tmp_path)
    assert samples == 8 + 30
    assert MADE_AGAIN in caplog.text
    assert str(file) in caplog.text
    assert torch.equal(made.values, whole.values)
    assert list(tmp_path.iterdir()) == [file]


def test_a_snapshot_and_a_plain_function_can_be_cached(model, tmp_path):
    loader = DataLoader(TensorDataset(torch.randn(12, 4)), batch_size=8)
    for make in (
        snapshot(model, loader, cache=tmp_path),
        lambda: embed(loader, lambda batch: batch[0], cache=tmp_path),
    ):
        assert torch.equal(make().values, make().values)
    assert len(list(tmp_path.iterdir())) == 2
