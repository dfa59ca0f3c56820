"""Auto: what it chooses is the composition of what it names, and it says what it left out and why."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from leantrain import Auto, ClassCap, Distinct, LabelGuard, data, wrap
from leantrain.core.selector import all_parts
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train

SIZE = 200


def images(side: int = 8) -> TensorDataset:
    """A tail of four classes, 120 to 8 samples; of the first 60 each second one repeats the one before."""
    rng = torch.Generator().manual_seed(4)
    labels = torch.tensor([0] * 120 + [1] * 52 + [2] * 20 + [3] * 8)
    pixels = torch.rand(SIZE, 1, side, side, generator=rng)
    pixels[1:60:2] = pixels[0:60:2]
    return TensorDataset(pixels, labels)


def loader_of(selector, dataset=None, labels=True, **options):
    dataset = dataset or images()
    targets = dataset.tensors[1] if labels and isinstance(dataset, TensorDataset) else None
    plain = DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(1))
    return wrap(plain, selector, **({"epochs": 5, "targets": targets} | options))


def chosen(auto) -> list[str]:
    return [type(part).__name__ for part in all_parts(auto) if type(part).__name__ not in ("Auto", "Chain")]


def planned(loader, epochs=5):
    """The plan's samples in each epoch of a training that tells losses and logits."""
    model, found = nn.Linear(64, 4), []
    while loader.epoch < epochs:
        found.append(loader.plan.indices.tolist())
        for pixels, labels in loader:
            logits = model(loader.view(pixels).flatten(1))
            loader.reduce(nn.functional.cross_entropy(logits, labels, reduction="none"), logits, labels)
    return found


def test_it_is_the_composition_of_what_it_names():
    auto = planned(loader_of(Auto(), goal="balanced"))
    assert auto == planned(loader_of(Distinct() | ClassCap() | LabelGuard(), goal="balanced"))
    assert all(len(epoch) < SIZE - 30 for epoch in auto)  # neither the repeats nor all of the largest class


@pytest.mark.parametrize(
    ("given", "options", "expected", "said"),
    [
        (
            {},
            {"goal": "balanced"},
            "Distinct ClassCap LabelGuard",
            "keep their size: the model takes no other",
        ),
        ({}, {"goal": "as-trained"}, "Distinct LabelGuard", "images keep their size"),
        ({}, {}, "Distinct LabelGuard", 'say so: goal="balanced"'),
        ({}, {"labels": False}, "Distinct", "no labels are known"),
        ({"side": 32}, {}, "Distinct LabelGuard", "images of 32 pixels keep their size"),
        ({"side": 64}, {}, "Distinct LabelGuard InputSize", 'say so: goal="balanced"'),
        ({"side": 224}, {"labels": False}, "Distinct InputSize", "no labels are known"),
    ],
)
def test_it_leaves_out_what_the_run_has_no_use_for_and_says_so(given, options, expected, said):
    loader = loader_of(Auto(**given), **options)
    assert chosen(loader.selector) == expected.split()
    assert any(said in note for note in loader.selector.notes())


class Drawn(Dataset):
    """Nothing is stored: samples are made as they are read."""

    def __init__(self) -> None:
        self.targets = [i % 4 for i in range(SIZE)]

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int):
        return torch.full((1, 8, 8), float(index)), self.targets[index]


def test_data_that_do_not_show_what_they_store_are_not_refused():
    loader = loader_of(Auto(), Drawn(), goal="balanced")
    assert all(sorted(epoch) == [*range(SIZE)] for epoch in planned(loader))
    assert any("Distinct cannot tell" in note for note in loader.selector.notes())
    with pytest.raises(TypeError, match=r"Distinct\(groups=ids\)"):
        loader_of(Distinct(), Drawn())


def test_by_name_in_a_loop_and_in_the_trainer():
    assert chosen(loader_of("auto", goal="balanced").selector) == ["Distinct", "ClassCap", "LabelGuard"]
    with pytest.raises(ValueError, match=r"method.*autp.*auto"):
        loader_of("autp")
    digits = data.load("digits", limit=150)
    config = TrainConfig(limit=150, width=4, epochs=2, batch_size=32, device="cpu")
    said = []
    result = train(config, digits, "auto", seed=0, note=said.append)
    assert result.facts.backward_samples == 300
    assert "images of 8 pixels keep their size" in " ".join(said)


def test_in_the_trainer_large_images_are_made_smaller():
    digits = data.load("digits", limit=100, image_size=64)
    config = TrainConfig(limit=100, image_size=64, width=2, epochs=3, batch_size=32, device="cpu")
    assert [part.pixels for part in train(config, digits, "auto", seed=0).facts.smaller] == [0.25, 0.5625]
