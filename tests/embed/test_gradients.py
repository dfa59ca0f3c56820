"""Last-layer gradients against autograd, one sample at a time; the model left as it was found."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from leantrain.embed import gradients

LABELS = torch.arange(22) % 3


@pytest.fixture
def model():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 7), nn.BatchNorm1d(7), nn.Dropout(0.5), nn.ReLU(), nn.Linear(7, 3)
    ).train()


@pytest.fixture
def images():
    return torch.randn(22, 3, 2, 2)


def loader(*columns, **options):
    return DataLoader(TensorDataset(*columns), **({"batch_size": 8, "shuffle": True} | options))


@pytest.mark.parametrize("workers", [0, 2])
def test_they_are_those_of_autograd(model, images, workers):
    made = gradients(model, loader(images, LABELS, num_workers=workers))()
    assert (made.delta.shape, made.features.shape) == ((22, 3), (22, 7))
    assert made.seconds > 0
    model.eval()
    for i in range(22):
        loss = F.cross_entropy(model(images[i : i + 1]), LABELS[i : i + 1])
        weight, bias = torch.autograd.grad(loss, [model[-1].weight, model[-1].bias])
        assert torch.allclose(made.delta[i].outer(made.features[i]), weight, atol=1e-6)
        assert torch.allclose(made.delta[i], bias, atol=1e-6)


def test_the_model_and_the_random_state_are_left_as_found(model, images):
    model[2].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    gradients(model, loader(images, LABELS))()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, True, False, True, True, True]
    assert torch.equal(random, torch.get_rng_state())
    assert not model[-1]._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_call_sees_the_model_as_it_is(model, images):
    make = gradients(model, loader(images, LABELS))
    before = make().delta
    with torch.no_grad():
        model[1].weight.mul_(3)
    assert not torch.equal(before, make().delta)


def test_other_layers_batches_and_data_sets(model, images):
    """By name or itself; through ``forward``; with a data set that has a fingerprint of its own."""
    wide = nn.ModuleDict({"head": nn.Linear(7, 3), "unused": nn.Linear(9, 9)})
    wide["body"] = model[:-1]
    wide["head"].load_state_dict(model[-1].state_dict())

    def forward(model, batch):
        return model["head"](model["body"](batch["x"])), batch["y"]

    data = [{"x": image, "y": int(label)} for image, label in zip(images, LABELS, strict=True)]
    expected = gradients(model, loader(images, LABELS))()
    for layer in ("head", wide["head"]):
        made = gradients(wide, DataLoader(data, batch_size=5), layer=layer, forward=forward, batch_size=4)()
        assert torch.allclose(made.delta, expected.delta, atol=1e-6)
        assert torch.allclose(made.features, expected.features, atol=1e-6)
    with pytest.raises(ValueError, match="was not reached"):
        gradients(wide, DataLoader(data), layer="unused", forward=forward)()
    dataset = TensorDataset(images, LABELS)
    dataset.fingerprint = "mine"
    assert gradients(model, DataLoader(dataset))().fingerprint == "mine"


def test_half_precision_comes_out_whole(model, images):
    made = gradients(model.bfloat16(), loader(images.bfloat16(), LABELS))()
    assert (made.delta.dtype, made.features.dtype) == (torch.float32, torch.float32)
    assert made.delta.sum(dim=1).abs().max() < 1e-5


def test_models_without_such_a_layer_are_refused(model, images):
    with pytest.raises(ValueError, match=r"Conv2d has no nn.Linear layer.*layer="):
        gradients(nn.Conv2d(3, 4, 1), loader(images, LABELS))
    with pytest.raises(ValueError, match=r"no layer named 'fc'. Its linear layers: 1, 5\."):
        gradients(model, loader(images, LABELS), layer="fc")
    tokens = nn.Sequential(nn.Linear(2, 3), nn.Flatten(2), nn.Flatten(1))
    with pytest.raises(ValueError, match=r"makes \(8, 3, 2, 3\) of \(8, 3, 2, 2\) for a batch of 8; expected \(8, C\)"):
        gradients(tokens, loader(images, LABELS))()


def test_a_layer_that_runs_twice_is_refused(images):
    shared = nn.Linear(12, 12)
    with pytest.raises(ValueError, match="ran 2 times in one forward pass"):
        gradients(nn.Sequential(nn.Flatten(), shared, shared), loader(images, LABELS))()


@pytest.mark.parametrize(
    ("targets", "error", "text"),
    [
        (torch.rand(22), TypeError, r"shape \(8,\) and type torch.float32, expected \(8,\) integers"),
        (torch.zeros(22, 3), TypeError, r"shape \(8, 3\).* Multi-label and regression"),
        (torch.zeros(22, 3, dtype=torch.int64), TypeError, r"shape \(8, 3\) and type torch.int64"),
        (torch.full((22,), 3), ValueError, r"targets go from 3 to 3; the layer scores 3 classes, 0 to 2"),
        (torch.full((22,), -100), ValueError, "targets go from -100"),
    ],
    ids=["regression", "soft", "multi-label", "too large", "ignored"],
)
def test_targets_that_are_not_class_labels_are_refused(model, images, targets, error, text):
    with pytest.raises(error, match=text):
        gradients(model, loader(images, targets))()
