"""Embedding passes: every sample of a data set through an extractor, in order. B = samples of a batch."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain.core import dataset_info
from leantrain.core.inputs import Sized
from leantrain.embed.cache import cached
from leantrain.embed.extractors import last_linear, penultimate
from leantrain.embed.features import Features
from leantrain.utils import memory
from leantrain.utils.dataloader_copy import copy_with


def embed(
    loader: DataLoader[Any],
    extractor: Callable[[Any], Tensor],
    *,
    name: str = "",
    batch_size: int | None = None,
    cache: str | Path | None = None,
) -> Features:
    """Embed every sample of ``loader``'s data set, in the data set's own order.

    Args:
        loader: the training DataLoader; its data set, workers and ``collate_fn`` are used, its sampler is not.
        extractor: function of a batch that gives (B, D) features, for example ``pretrained("resnet18")``.
        name: of the extractor, kept with the features.
        batch_size: of this pass; by default the loader's.
        cache: folder where features are kept, as safetensors, for the next time the same data set meets the same
            extractor: by the data set's fingerprint, ``name`` and the weights, where the extractor has a
            ``fingerprint()``, as those of this package do. The first batch is embedded anew and compared, which shows
            a preprocessing that changed. What does not fit or cannot be read is made again, with a message.

    Raises:
        ValueError: the extractor gives something else than one row a sample, or more than memory can hold; the latter
            shows with the first batch.
    """
    fingerprint, size = dataset_info.fingerprint(loader.dataset), len(loader.dataset)  # pyright: ignore[reportArgumentType]

    def make() -> Features:
        start = time.perf_counter()
        values, done = torch.empty(0, 0, dtype=torch.float32), 0
        for rows in _rows(loader, extractor, batch_size):
            if not done:
                memory.check_fits([memory.rows("features", size, rows.shape[1])])
                values = torch.empty(size, rows.shape[1], dtype=torch.float32)  # the batches are not held twice
            values[done : done + len(rows)] = rows
            done += len(rows)
        return Features(values, fingerprint, name, time.perf_counter() - start)

    if cache is None:
        return make()
    weights = extractor.fingerprint() if hasattr(extractor, "fingerprint") else ""  # pyright: ignore[reportFunctionMemberAccess]
    first = next(_rows(loader, extractor, batch_size))
    return cached(Path(cache), (fingerprint, name, weights), size, first, make)


def _rows(loader: DataLoader[Any], extractor: Callable[[Any], Tensor], batch_size: int | None) -> Iterator[Tensor]:
    """The (B, D) features of one batch after the other."""
    for batch, expected in in_order(loader, batch_size):
        features = extractor(batch)
        if features.ndim != 2 or len(features) != expected:
            raise ValueError(
                f"The extractor gave {tuple(features.shape)} for a batch of {expected}; expected ({expected}, D), one "
                "row a sample. Average over the other dimensions: features.flatten(2).mean(2)."
            )
        yield features.detach()


def in_order(loader: DataLoader[Any], batch_size: int | None = None) -> Iterator[tuple[Any, int]]:
    """Every batch of ``loader``'s data set in the data set's own order, and the number of its samples."""
    batch_size = int(batch_size or getattr(loader.batch_sampler, "batch_size", None) or 128)
    # A generator of its own: the pass must not draw from torch's global one, nor from the training's.
    ordered = copy_with(loader, batch_size=batch_size, generator=torch.Generator().manual_seed(0))
    size = len(loader.dataset)  # pyright: ignore[reportArgumentType]
    for number, batch in enumerate(ordered):
        yield batch, min(batch_size, size - number * batch_size)


def snapshot(
    model: nn.Module,
    loader: DataLoader[Any],
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    cache: str | Path | None = None,
) -> Sized[Features]:
    """A callable that embeds with ``model`` as it is when called: for ``IDS(features=snapshot(...), start_epoch=5)``.

    Args:
        model: the model being trained; its features are those before its last linear layer.
        loader: the training DataLoader.
        forward: how a batch goes through the model; by default ``model(batch[0])``.
        cache: as for ``embed``; of use where a training with the same seed is run again.
    """
    name = "snapshot of the model being trained"
    head = last_linear(model)
    make = lambda: embed(loader, penultimate(model, forward=forward), name=name, cache=cache)  # noqa: E731
    return Sized(make, head.in_features if head else 0)
