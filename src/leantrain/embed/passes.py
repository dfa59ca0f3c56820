"""Embedding passes: every sample of a data set through an extractor, in order. B = samples of a batch."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import intake, memory
from leantrain.embed.extractors import last_linear, penultimate
from leantrain.embed.features import Features


def embed(
    loader: DataLoader[Any], extractor: Callable[[Any], Tensor], *, name: str = "", batch_size: int | None = None
) -> Features:
    """Embed every sample of ``loader``'s data set, in the data set's own order.

    Args:
        loader: the training DataLoader; its data set, workers and ``collate_fn`` are used, its sampler is not.
        extractor: function of a batch that gives (B, D) features, for example ``pretrained("resnet18")``.
        name: of the extractor, kept with the features.
        batch_size: of this pass; by default the loader's.

    Raises:
        ValueError: the extractor gives something else than one row a sample, or more than memory can hold; the latter
            shows with the first batch.
    """
    start = time.perf_counter()
    size, done = len(loader.dataset), 0  # pyright: ignore[reportArgumentType]
    values = torch.empty(0, 0)
    for batch, expected in in_order(loader, batch_size):
        features = extractor(batch)
        if features.ndim != 2 or len(features) != expected:
            raise ValueError(
                f"The extractor gave {tuple(features.shape)} for a batch of {expected}; expected ({expected}, D), one "
                "row a sample. Average over the other dimensions: features.flatten(2).mean(2)."
            )
        if done == 0:  # at once, since joining parts at the end would hold them twice
            memory.check_fits([memory.rows("features", size, features.shape[1])])
            values = torch.empty(size, features.shape[1])
        values[done : done + expected] = features.detach()
        done += expected
    return Features(values, intake.fingerprint(loader.dataset), name, time.perf_counter() - start)


def in_order(loader: DataLoader[Any], batch_size: int | None = None) -> Iterator[tuple[Any, int]]:
    """Every batch of ``loader``'s data set in the data set's own order, and the number of its samples."""
    batch_size = int(batch_size or getattr(loader.batch_sampler, "batch_size", None) or 128)
    ordered = DataLoader(
        loader.dataset,
        batch_size=batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        # A generator of its own: the pass must not draw from torch's global one.
        generator=torch.Generator().manual_seed(0),
    )
    size = len(loader.dataset)  # pyright: ignore[reportArgumentType]
    for number, batch in enumerate(ordered):
        yield batch, min(batch_size, size - number * batch_size)


def snapshot(
    model: nn.Module, loader: DataLoader[Any], *, forward: Callable[[nn.Module, Any], Any] | None = None
) -> memory.Sized[Features]:
    """A callable that embeds with ``model`` as it is when called: for ``IDS(features=snapshot(...), start_epoch=5)``.

    Args:
        model: the model being trained; its features are those before its last linear layer.
        loader: the training DataLoader.
        forward: how a batch goes through the model; by default ``model(batch[0])``.
    """
    head = last_linear(model)
    make = lambda: embed(loader, penultimate(model, forward=forward), name="snapshot of the model being trained")  # noqa: E731
    return memory.Sized(make, head.in_features if head else 0)
