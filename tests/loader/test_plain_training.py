"""Keeping everything is plain PyTorch, bit for bit: batches, their order, weights, and the global random state."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from leantrain import IDS, RPC, RPD, RS2, Adonis, Full, InfoBatch, Selector, wrap

SIZE, EPOCHS = 22, 3


class Pictures(Dataset):
    """Sample i as ``form`` lays it out: (image, label) or something nested."""

    def __init__(self, form: Callable[[Tensor, int, int], Any]) -> None:
        self.images = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(3))
        self.targets, self.form = [i % 3 for i in range(SIZE)], form

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        image = self.images[index] + torch.rand(4)  # augmented from the global stream, as users do
        return self.form(image, self.targets[index], index)


def as_tuple(image: Tensor, label: int, index: int) -> Any:
    return image, label


def as_dict(image: Tensor, label: int, index: int) -> Any:
    return {"pixels": image, "label": label}


def nested(image: Tensor, label: int, index: int) -> Any:
    return {"views": [image, (image * 2, f"sample {index}")], "meta": {"label": label}}


FORMS: dict[str, tuple[Callable[..., Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "tuple": (as_tuple, lambda batch: (batch[0], batch[1])),
    "dict": (as_dict, lambda batch: (batch["pixels"], batch["label"])),
    "nested": (nested, lambda batch: (batch["views"][1][0], batch["meta"]["label"])),
}


def as_lists(samples: list[Any]) -> Any:
    """As in detection: images, and targets of various lengths."""
    return [image for image, _ in samples], [torch.full((1 + label,), label) for _, label in samples]


def from_lists(batch: Any) -> tuple[Tensor, Tensor]:
    return torch.stack(batch[0]), torch.stack([target[0] for target in batch[1]])


class Uneven(Sampler):
    """A batch sampler with batches of many sizes and no ``batch_size``."""

    def __iter__(self) -> Any:
        order = torch.randperm(SIZE).tolist()
        for start, end in [(0, 3), (3, 10), (10, 12), (12, 22)]:
            yield order[start:end]

    def __len__(self) -> int:
        return 4


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(11)


LOADERS: dict[str, Callable[[], dict[str, Any]]] = {
    "sequential": lambda: {"batch_size": 4},
    "shuffled": lambda: {"batch_size": 4, "shuffle": True},
    "shuffled by a generator": lambda: {"batch_size": 4, "shuffle": True, "generator": seeded()},
    "drop_last": lambda: {"batch_size": 4, "shuffle": True, "drop_last": True},
    "subset sampler": lambda: {"batch_size": 4, "sampler": SubsetRandomSampler(range(0, SIZE, 2))},
    "weighted sampler": lambda: {
        "batch_size": 4,
        "sampler": WeightedRandomSampler(torch.arange(1.0, SIZE + 1), num_samples=30),
    },
    "random sampler with replacement": lambda: {
        "batch_size": 4,
        "sampler": RandomSampler(range(SIZE), replacement=True, num_samples=18, generator=seeded()),
    },
    "uneven batch sampler": lambda: {"batch_sampler": Uneven()},
    "shuffled BatchSampler": lambda: {
        "batch_sampler": BatchSampler(RandomSampler(range(SIZE)), batch_size=4, drop_last=False)
    },
}
WORKERS: dict[str, Callable[[], dict[str, Any]]] = {
    "2 workers": lambda: {"batch_size": 4, "shuffle": True, "num_workers": 2},
    "2 persistent workers": lambda: {
        "batch_size": 4,
        "shuffle": True,
        "num_workers": 2,
        "persistent_workers": True,
        "generator": seeded(),
    },
    "2 workers, uneven": lambda: {"batch_sampler": Uneven(), "num_workers": 2, "prefetch_factor": 3},
}


def train(
    dataset: Dataset,
    options: dict[str, Any],
    read: Callable[[Any], tuple[Tensor, Tensor]],
    selector: Selector | None,
) -> list[Tensor]:
    """A user's loop, plain or with the two lines changed. Everything that must not differ, in order."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    loader: Any = DataLoader(dataset, **options)
    if selector is not None:
        scored = []  # a scoring function is tried on the first batch, and not asked again here

        def score(batch: Any) -> Tensor:
            scored.append(1)
            assert len(scored) == 1, "nothing to score"
            return torch.zeros(len(read(batch)[1]))

        loader = wrap(loader, selector, epochs=EPOCHS, score=score)
    facts: list[Tensor] = []
    for _ in range(EPOCHS):
        for batch in loader:
            images, labels = read(batch)
            facts += [images, labels]
            logits = model(images)
            if selector is None:
                loss = F.cross_entropy(logits, labels)
            else:
                loss = loader.reduce(F.cross_entropy(logits, labels, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        facts.append(torch.get_rng_state())
    return facts + [value.clone() for value in model.state_dict().values()]


def assert_same(plain: list[Tensor], ours: list[Tensor]) -> None:
    assert len(plain) == len(ours) > 3 * EPOCHS
    for number, (a, b) in enumerate(zip(plain, ours, strict=True)):
        assert torch.equal(a, b), f"fact {number} differs"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", LOADERS.values(), ids=LOADERS)
def test_any_loader_and_batch(form: str, options: Callable[[], dict[str, Any]]) -> None:
    make, read = FORMS[form]
    assert_same(train(Pictures(make), options(), read, None), train(Pictures(make), options(), read, Full()))


@pytest.mark.parametrize("options", WORKERS.values(), ids=WORKERS)
def test_workers(options: Callable[[], dict[str, Any]]) -> None:
    make, read = FORMS["dict"]
    assert_same(train(Pictures(make), options(), read, None), train(Pictures(make), options(), read, Full()))


@pytest.mark.parametrize(
    "selector",
    [
        lambda: RPD(keep_ratio=1),
        lambda: RPC(keep_ratio=1),
        lambda: RS2(keep_ratio=1),
        lambda: InfoBatch(prune_ratio=0),
        lambda: InfoBatch(delta=0),
        lambda: IDS(features=torch.randn(SIZE, 5), keep_ratio=1),
        lambda: Adonis(start_epoch=EPOCHS),
        lambda: RPD(keep_ratio=1) | RS2(keep_ratio=1),
    ],
    ids=["rpd", "rpc", "rs2", "infobatch-0", "infobatch-delta-0", "ids", "adonis-later", "rpd|rs2"],
)
@pytest.mark.parametrize("options", ["shuffled", "weighted sampler", "uneven batch sampler"])
def test_every_method_that_keeps_everything(selector: Callable[[], Selector], options: str) -> None:
    make, read = FORMS["tuple"]
    plain = train(Pictures(make), LOADERS[options](), read, None)
    assert_same(plain, train(Pictures(make), LOADERS[options](), read, selector()))


@pytest.mark.parametrize("selector", [Full, lambda: Adonis(start_epoch=EPOCHS)], ids=["full", "adonis-later"])
@pytest.mark.parametrize("workers", [0, 2])
def test_custom_collate(selector: Callable[[], Selector], workers: int) -> None:
    def options() -> dict[str, Any]:
        return {"batch_size": 4, "shuffle": True, "collate_fn": as_lists, "num_workers": workers}

    plain = train(Pictures(as_tuple), options(), from_lists, None)
    assert_same(plain, train(Pictures(as_tuple), options(), from_lists, selector()))


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but:UserWarning")
@pytest.mark.parametrize("collate", [None, as_lists])
def test_pin_memory(collate: Any) -> None:
    read = from_lists if collate else FORMS["tuple"][1]
    options = {"batch_size": 4, "pin_memory": True, "collate_fn": collate}
    plain = train(Pictures(as_tuple), options, read, None)
    assert_same(plain, train(Pictures(as_tuple), options, read, Full()))


def numpy_state() -> str:
    return str(np.random.get_state())  # noqa: NPY002 - the global stream is the point


def test_wrapping_draws_nothing() -> None:
    before = torch.get_rng_state(), random.getstate(), numpy_state()
    loader = wrap(DataLoader(Pictures(as_tuple), batch_size=4, shuffle=True), RPD(keep_ratio=0.5), epochs=3)
    assert len(loader) == 3
    assert loader.plan.indices.numel() == 11
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), numpy_state())
