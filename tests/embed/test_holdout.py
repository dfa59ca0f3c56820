"""Losses under a holdout model: one a sample, in order, of the same classes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from leantrain.embed import holdout_losses


class Labelled(TensorDataset):
    """30 samples of 5 features, labels 0 to 3."""

    def __init__(self) -> None:
        self.targets = torch.arange(30) % 4
        super().__init__(torch.randn(30, 5, generator=torch.Generator().manual_seed(1)), self.targets)


def model_of(classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, classes))


@pytest.mark.parametrize("batch_size", [None, 7])
def test_each_sample_has_its_own_loss(batch_size):
    data, model = Labelled(), model_of(4)
    random = torch.get_rng_state()
    found = holdout_losses(model, DataLoader(data, batch_size=8, shuffle=True), F.cross_entropy, batch_size=batch_size)
    assert torch.equal(random, torch.get_rng_state())
    assert model.training
    model.eval()
    with torch.no_grad():
        alone = [float(F.cross_entropy(model(x[None]), y[None])) for x, y in data]
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(alone, rel=1e-5)
    assert not found.requires_grad


def test_a_model_of_other_classes_is_refused():
    loader = DataLoader(Labelled(), batch_size=8)
    with pytest.raises(ValueError, match=r"gives scores of 10 classes; the data has 4.*classes=10"):
        holdout_losses(model_of(10), loader, F.cross_entropy)
    with pytest.raises(ValueError, match=r"gives scores of 3 classes; the data has 4"):
        holdout_losses(model_of(3), loader, nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"gives scores of 4 classes; the data has 5"):
        holdout_losses(model_of(4), loader, F.cross_entropy, classes=5)


def test_a_class_without_a_sample_can_be_said():
    part = Subset(Labelled(), [i for i in range(30) if i % 4 < 3])
    with pytest.raises(ValueError, match="the data has 3"):
        holdout_losses(model_of(4), DataLoader(part, batch_size=8), F.cross_entropy)
    assert len(holdout_losses(model_of(4), DataLoader(part, batch_size=8), F.cross_entropy, classes=4)) == len(part)


def test_batches_of_another_form_and_losses_of_other_tasks():
    data = Labelled()
    items = [{"x": x, "y": y} for x, y in data]
    model = model_of(4)
    given = holdout_losses(
        model, DataLoader(items, batch_size=8), F.cross_entropy, forward=lambda m, b: (m(b["x"]), b["y"])
    )
    assert torch.equal(given, holdout_losses(model, DataLoader(data, batch_size=8), F.cross_entropy))
    pairs = TensorDataset(data.tensors[0], torch.randn(30, 2))
    squares = holdout_losses(
        model_of(2), DataLoader(pairs, batch_size=8), lambda out, wanted: (out - wanted).square().mean(1), classes=9
    )
    assert squares.shape == (30,)


def test_a_loss_that_is_not_one_number_a_sample_is_refused():
    loader = DataLoader(Labelled(), batch_size=8)
    with pytest.raises(ValueError, match="single number; expected one loss a sample"):
        holdout_losses(model_of(4), loader, lambda out, y: F.cross_entropy(out, y) + 0)
    with pytest.raises(ValueError, match=r"shape \(8, 4\); expected one loss a sample"):
        holdout_losses(model_of(4), loader, lambda out, y: out)
