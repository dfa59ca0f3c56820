"""EL2N and GraNd of a model against plain Python and one backward pass a sample (references/el2n.py)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import references.el2n as reference
from leantrain.embed import el2n, el2n_scores, grand_scores

TARGETS = torch.arange(11) % 3


@pytest.fixture
def model() -> nn.Module:
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    layers(torch.randn(8, 2, 3, 3))  # BatchNorm statistics that matter
    return layers


@pytest.fixture
def images() -> Tensor:
    return torch.randn(11, 2, 3, 3)


def loader_of(*tensors: Tensor, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), **({"batch_size": 4, "shuffle": True} | options))


def brier(outputs: Tensor, targets: Tensor) -> Tensor:
    probabilities = outputs.softmax(dim=1)
    return probabilities.square().sum(dim=1) - 2 * probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)


def test_el2n_by_hand() -> None:
    probabilities = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    expected = [0, 2**0.5, 0.5**0.5, (0.2**2 + 0.3**2 + 0.5**2) ** 0.5]
    assert el2n(probabilities, torch.tensor([0, 0, 1, 2])).tolist() == pytest.approx(expected)
    assert el2n(probabilities[:0], TARGETS[:0]).tolist() == []


def test_el2n_scores(model: nn.Module, images: Tensor) -> None:
    ours = el2n_scores(model, loader_of(images, TARGETS))
    assert ours.dtype == torch.float32
    logits = model.eval()(images)
    assert ours.tolist() == pytest.approx(reference.el2n(logits.tolist(), TARGETS.tolist()), rel=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("loss_fn", [F.cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.1), brier])
def test_grand_scores(model: nn.Module, images: Tensor, loss_fn: Any, chunk_size: int) -> None:
    ours = grand_scores(model, loader_of(images, TARGETS), loss_fn, chunk_size=chunk_size)
    assert ours.dtype == torch.float32
    expected = reference.grand(model.eval(), images, TARGETS, loss_fn)
    assert ours.tolist() == pytest.approx(expected, rel=1e-4)
    assert len(set(expected)) == 11


def test_grand_where_vmap_cannot_go(model: nn.Module, images: Tensor) -> None:
    """Memory formats of four dimensions, and what reads a value, are unknown to vmap."""

    def forward(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        assert float(batch[0].sum()) < 1e9
        return model(batch[0].to(memory_format=torch.channels_last)), batch[1]

    ours = grand_scores(model, loader_of(images, TARGETS), forward=forward)
    expected = reference.grand(model.eval(), images, TARGETS, F.cross_entropy)
    assert ours.tolist() == pytest.approx(expected, rel=1e-4)


def test_grand_is_over_the_trainable_parameters(model: nn.Module, images: Tensor) -> None:
    whole = grand_scores(model, loader_of(images, TARGETS))
    model[0].requires_grad_(False)
    part = grand_scores(model, loader_of(images, TARGETS))
    assert part.tolist() == pytest.approx(reference.grand(model.eval(), images, TARGETS, F.cross_entropy), rel=1e-4)
    assert (part < whole).all()


def test_grand_of_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
            self.last.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x)))

    model, inputs = Tied(), torch.randn(11, 3)
    ours = grand_scores(model, loader_of(inputs, TARGETS))
    assert ours.tolist() == pytest.approx(reference.grand(model, inputs, TARGETS, F.cross_entropy), rel=1e-4)


@pytest.mark.parametrize("scores", [el2n_scores, grand_scores])
def test_the_model_is_left_as_found(model: nn.Module, images: Tensor, scores: Any) -> None:
    model.train()
    model[1].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    parameters = list(model.parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    first, second = (scores(model, loader_of(images, TARGETS)) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert all(now is before for now, before in zip(model.parameters(), parameters, strict=True))
    assert all((parameter.grad == 1).all() and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("scores", [el2n_scores, grand_scores])
def test_a_forward_reads_other_batches(model: nn.Module, images: Tensor, scores: Any) -> None:
    """A forward may reach into the model; its parameters are then the ones that count as well."""
    data = [{"pixels": image, "label": int(label)} for image, label in zip(images, TARGETS, strict=True)]

    def forward(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        return model[5](model[:5](batch["pixels"])), batch["label"]

    ours = scores(model, DataLoader(data, batch_size=4), forward=forward)
    assert torch.equal(ours, scores(model, loader_of(images, TARGETS)))


def test_wrong_inputs(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"probabilities \(11,\) and targets \(11,\).*expected \(B, C\)"):
        el2n(torch.rand(11), TARGETS)
    with pytest.raises(ValueError, match=r"targets \(10,\)"):
        el2n(torch.rand(11, 3), TARGETS[:10])
    with pytest.raises(ValueError, match=r"torch.float32; expected"):
        el2n(torch.rand(11, 3), TARGETS.float())
    with pytest.raises(ValueError, match="targets range from 0 to 2; the model has 2 classes, 0 to 1"):
        el2n(torch.rand(11, 2), TARGETS)
    with pytest.raises(TypeError, match=r"expected a batch of \(inputs, targets\)"):
        grand_scores(model, loader_of(images))
    with pytest.raises(ValueError, match="Flatten has no trainable parameters"):
        grand_scores(nn.Flatten(), loader_of(images, TARGETS))
    with pytest.raises(ValueError, match="chunk_size=0 must be at least 1"):
        grand_scores(model, loader_of(images, TARGETS), chunk_size=0)
