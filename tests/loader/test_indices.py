"""``loader.indices`` names the samples of the batch, checked against the data."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, SubsetRandomSampler, WeightedRandomSampler

from leantrain import Full, wrap
from toys import EACH_WAY, METHODS, OWN_ORDER, SIZE, WAYS, Numbers, losses_at, wrapped

EPOCHS = 4
SAMPLERS = {
    "sequential": dict,
    "shuffle": lambda: {"shuffle": True},
    "weighted": lambda: {"sampler": WeightedRandomSampler(torch.arange(1.0, SIZE + 1), SIZE)},
    "subset": lambda: {"sampler": SubsetRandomSampler(range(2, SIZE))},
    "batches": lambda: {"batch_sampler": [[*range(k, k + 5)] for k in range(0, SIZE, 5)]},
}


def as_objects(samples: list[Any]) -> Any:
    """A batch that only this function can make: a tensor of numbers and boxes of various shapes."""
    return torch.tensor([number for number, _ in samples]), [torch.ones(1 + n % 3, 4) * n for n, _ in samples]


def check(loader: Any, read: Any = lambda batch: batch[0]) -> None:
    seen = 0
    for _ in range(EPOCHS):
        for batch in loader:
            numbers: Tensor = read(batch)
            assert numbers.tolist() == loader.indices.tolist()
            loader.reduce(losses_at(loader.epoch, loader.indices))
            seen += len(numbers)
    assert seen >= 3 * EPOCHS


@pytest.mark.parametrize(
    ("method", "sampler"),
    [
        pytest.param(
            method,
            SAMPLERS[name],
            id=f"{method}-{name}",
            marks=() if name == "shuffle" or method in (*WAYS, *OWN_ORDER) else pytest.mark.slow,
        )
        for method in METHODS
        for name in SAMPLERS
    ],
)
def test_no_workers(method: str, sampler: Any) -> None:
    plain = not sampler() or "shuffle" in sampler() or isinstance(sampler().get("sampler"), SubsetRandomSampler)
    if method in OWN_ORDER and not plain:
        with pytest.raises(ValueError, match="cannot follow a custom sampler"):
            check(wrapped(METHODS[method](), epochs=EPOCHS, **sampler()))
        return
    check(wrapped(METHODS[method](), epochs=EPOCHS, **sampler()))


@pytest.mark.parametrize("method", EACH_WAY)
def test_two_persistent_workers(method: str) -> None:
    options = {"num_workers": 2, "persistent_workers": True, "shuffle": True}
    check(wrapped(METHODS[method](), epochs=EPOCHS, **options))


@pytest.mark.parametrize("method", ["full", "infobatch", "stale adonis", "sb"])
def test_two_workers_with_a_custom_sampler(method: str) -> None:
    check(wrapped(METHODS[method](), epochs=EPOCHS, num_workers=2, **SAMPLERS["weighted"]()))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["infobatch", "stale adonis", "ids|adonis"])
def test_custom_collate(method: str, workers: int) -> None:
    loader = wrapped(METHODS[method](), epochs=EPOCHS, collate_fn=as_objects, num_workers=workers, shuffle=True)

    def read(batch: Any) -> Tensor:
        for number, boxes in zip(batch[0].tolist(), batch[1], strict=True):
            assert boxes.shape == (1 + number % 3, 4)
            assert (boxes == number).all()
        return batch[0]

    check(loader, read)


class Named(Numbers):
    """Every kind of leaf that ``default_collate`` knows."""

    def __getitem__(self, index: int) -> Any:
        number, label = super().__getitem__(index)
        return {"name": f"n{number}", "pair": (torch.ones(2, 2) * number, {"y": label, "path": (b"b", "p")})}


@pytest.mark.parametrize("method", ["full", "stale adonis", "sb"])
def test_nested_batches_with_strings(method: str) -> None:
    data = Named()
    loader = wrapped(
        METHODS[method](),
        data,
        epochs=EPOCHS,
        shuffle=True,
        score=lambda batch: losses_at(loader.epoch, batch["pair"][0][:, 0, 0].long()),
    )

    def read(batch: Any) -> Tensor:
        numbers = batch["pair"][0][:, 1, 1].long()
        count = len(numbers)
        assert list(batch["name"]) == [f"n{number}" for number in numbers.tolist()]
        assert batch["pair"][1]["y"].tolist() == [data.targets[number] for number in numbers.tolist()]
        assert [list(names) for names in batch["pair"][1]["path"]] == [[b"b"] * count, ["p"] * count]
        return numbers

    check(loader, read)


def test_a_sampler_that_repeats_is_filtered_not_made_unique() -> None:
    order = [0, 1, 1, 2, 39, 3, 1, 5]
    loader = wrapped(METHODS["rpd"](), sampler=order)
    numbers, kept = [], set()
    for batch in loader:
        kept = set(loader.plan.indices.tolist())  # known once the sampler was drawn
        numbers += batch[0].tolist()
    assert numbers == [number for number in order if number in kept]
    assert 0 < len(numbers) < len(order)


def test_before_the_first_batch_there_are_none() -> None:
    with pytest.raises(RuntimeError, match="iterate over the loader first"):
        _ = wrapped(METHODS["full"]()).indices


class Processes(Numbers):
    def __getitem__(self, index: int) -> int:
        return os.getpid()


@pytest.mark.parametrize("persistent", [True, False])
def test_persistent_workers_live_on(persistent: bool) -> None:
    loader = DataLoader(Processes(), batch_size=8, num_workers=1, persistent_workers=persistent)
    loader = wrap(loader, Full())
    first, second = ({int(i) for batch in loader for i in batch} for _ in range(2))
    assert (first == second) is persistent
