"""What ``wrap`` takes in: checks of the user's DataLoader, its labels, and its twin with another batch sampler."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from leantrain.loader.batch_sampler import SelectionSampler
from leantrain.utils.dataloader_copy import copy_with
from leantrain.utils.tolerant_reading import Collate, Tolerant

PREPARED = {  # what a framework made of a DataLoader shares its samples out and moves its batches
    "lightning_fabric": "Do not pass the DataLoader through fabric.setup_dataloaders(): wrap() the plain one, which "
    "shares the samples out itself, and move its batches by fabric.to_device(batch).",
    "accelerate": "Do not prepare the DataLoader: wrap() the plain one, which shares the samples out itself, and move "
    "its batches to accelerator.device. accelerator.prepare(model, optimizer) stays.",
}
PREPARED["lightning"] = PREPARED["lightning_fabric"]  # its other name


def check_loader(loader: Any) -> int:
    """The size of the data set of a DataLoader that can be wrapped; an error that says what to use otherwise."""
    if hint := PREPARED.get(type(loader).__module__.partition(".")[0]):
        raise TypeError(f"wrap() was given a {type(loader).__name__}. {hint}")
    if not isinstance(loader, DataLoader):
        raise TypeError(f"wrap() takes a torch DataLoader, not {type(loader).__name__}.")
    if isinstance(loader.dataset, IterableDataset):
        raise TypeError(
            "wrap() chooses samples by index, which an IterableDataset does not have. Use a map-style data set "
            "(__getitem__ and __len__); one that fits in memory can be made by list(dataset)."
        )
    if type(loader).__iter__ is not DataLoader.__iter__:
        raise TypeError(
            f"{type(loader).__name__} changes how a DataLoader iterates, which wrap() would lose. Wrap the plain "
            "DataLoader and apply the change around it."
        )
    if loader.batch_sampler is None:
        raise ValueError("wrap() needs a DataLoader that makes batches: pass batch_size=... or batch_sampler=...")
    if not getattr(loader, "in_order", True):
        raise ValueError("wrap() needs batches in the order they were asked for: use DataLoader(in_order=True).")
    try:
        size = len(loader.dataset)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise TypeError("wrap() needs a data set with a length: give it a __len__.") from error
    if size == 0:
        raise ValueError("The data set is empty: there is nothing to select from.")
    return size


def twin(
    loader: DataLoader[Any], stream: SelectionSampler, collate_fn: Any, *, keep_samples: bool, tolerant: bool
) -> DataLoader[Any]:
    """The user's DataLoader fed by ``stream``, with the ``collate_fn`` given.

    With ``keep_samples`` it gives lists of samples, not collated; ``tolerant``, what could be read of each batch.
    """
    collate: Any = _samples if keep_samples else collate_fn
    return copy_with(
        loader,
        dataset=Tolerant(loader.dataset) if tolerant else loader.dataset,
        batch_sampler=stream,
        collate_fn=Collate(collate) if tolerant else collate,
        pin_memory=loader.pin_memory and not keep_samples,
    )


def read(loader: DataLoader[Any], indices: Tensor) -> Any:
    """The samples ``indices`` (B,) as ``loader`` would give them, read here and now."""
    unused = torch.Generator()  # a DataLoader draws a seed for its workers, of which there are none
    return next(iter(copy_with(loader, batch_sampler=[indices.tolist()], num_workers=0, generator=unused)))


def draws(loader: DataLoader[Any]) -> list[Tensor]:
    """States of the user's generators, of the DataLoader and of its samplers, each once."""
    return [generator.get_state() for generator in _generators(loader)]


def set_draws(loader: DataLoader[Any], states: list[Tensor]) -> None:
    """Put back what ``draws`` gave; ValueError for the states of another number of generators."""
    generators = _generators(loader)
    if len(states) != len(generators):
        raise ValueError(
            f"The state holds {len(states)} generators and this DataLoader has {len(generators)}. Give both the same: "
            "DataLoader(..., generator=...)."
        )
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def _generators(loader: DataLoader[Any]) -> list[torch.Generator]:
    owners = (loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    found = [own for owner in owners if (own := getattr(owner, "generator", None)) is not None]
    return [own for position, own in enumerate(found) if all(own is not other for other in found[:position])]


def _samples(samples: list[Any]) -> list[Any]:
    return samples
