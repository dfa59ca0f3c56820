"""Embedding passes: every sample in order, the model left as it was, features that know their data set."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from leantrain.embed import Features, embed, penultimate, pretrained, snapshot


@pytest.fixture
def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.BatchNorm1d(7), nn.Dropout(0.5), nn.ReLU(), nn.Linear(7, 3))


@pytest.fixture
def images():
    return torch.randn(30, 3, 2, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_in_the_data_sets_order(model, images, workers):
    loader = DataLoader(TensorDataset(images), batch_size=8, shuffle=True, num_workers=workers)
    features = embed(loader, penultimate(model), name="mine")
    model.eval()
    with torch.no_grad():
        expected = torch.cat([model[:-1](images[i : i + 8]) for i in range(0, 30, 8)])
    assert torch.equal(features.values, expected)
    assert features.extractor == "mine"
    assert features.seconds > 0


def test_the_model_and_the_random_state_are_left_as_found(model, images):
    model.train()
    model[2].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    snapshot(model, DataLoader(TensorDataset(images), batch_size=8, shuffle=True))()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, True, False, True, True, True]
    assert torch.equal(random, torch.get_rng_state())
    assert not model[-1]._forward_pre_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_snapshot_is_of_the_model_when_called(model, images):
    take = snapshot(model, DataLoader(TensorDataset(images), batch_size=8))
    before = take().values
    with torch.no_grad():
        model[1].weight.mul_(3)
    assert not torch.equal(before, take().values)


def test_a_model_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match=r"no nn.Linear layer.*Pass a function of a batch"):
        penultimate(nn.Conv2d(3, 4, 1))


def test_features_of_the_wrong_shape_are_refused(images):
    loader = DataLoader(TensorDataset(images), batch_size=8)
    with pytest.raises(ValueError, match=r"gave \(8, 3, 2, 2\) for a batch of 8; expected \(8, D\)"):
        embed(loader, lambda batch: batch[0])
    with pytest.raises(ValueError, match="one row a sample"):
        embed(loader, lambda batch: batch[0][:1].flatten(1))


def test_files_keep_the_features_and_refuse_another_data_set(tmp_path):
    features = Features(torch.randn(5, 2), "a" * 32, "mine", 1.5)
    features.save(tmp_path / "f.safetensors")
    loaded = Features.load(tmp_path / "f.safetensors")
    assert torch.equal(loaded.values, features.values)
    assert (loaded.fingerprint, loaded.extractor, loaded.seconds) == ("a" * 32, "mine", 1.5)
    with pytest.raises(ValueError, match="another data set"):
        loaded.check_fingerprint("b" * 32)
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "f.safetensors").read_bytes()[:20])
    with pytest.raises(ValueError, match=r"torn.safetensors is not a whole features file"):
        Features.load(tmp_path / "torn.safetensors")


def test_a_pretrained_extractor_normalises_resizes_and_stops_before_the_head(tmp_path):
    if find_spec("torchvision") is None:  # asked for without importing it, which takes our own way in
        pytest.skip('needs torchvision: pip install "leantrain[vision]"')
    from leantrain.utils.torchvision_compat import import_torchvision

    models = import_torchvision().models
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        reference = models.resnet18(weights=None)
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    pixels = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    ours = pretrained("resnet18", weights=tmp_path / "resnet18.pth", size=32)((pixels, torch.zeros(4)))

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    grey = nn.functional.interpolate(pixels / 255, size=(32, 32), mode="bilinear", antialias=True)
    inputs = (grey.repeat(1, 3, 1, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    reference.fc = nn.Identity()
    reference.eval()
    with torch.no_grad():
        assert torch.allclose(ours, reference(inputs), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"Unknown torchvision model 'resnet81'. Did you mean 'resnet18'"):
        pretrained("resnet81")
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth does not exist"):
        pretrained("resnet18", weights=tmp_path / "nowhere.pth")
