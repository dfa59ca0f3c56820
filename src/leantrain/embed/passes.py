"""Embedding passes: every sample of a data set through an extractor, in order. B = samples of a batch."""

import contextlib
import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain.core import dataset_info
from leantrain.core.inputs import Sized
from leantrain.distributed.process_group import Ranks
from leantrain.embed.cache import cached
from leantrain.embed.extractors import last_linear, penultimate
from leantrain.embed.features import Features
from leantrain.utils import memory, validation
from leantrain.utils.dataloader_copy import copy_with
from leantrain.utils.sampler_pool import sampler_part
from leantrain.utils.tolerant_reading import Collate, Tolerant, culprit

Unreadable = Literal["raise", "skip"]
EXCHANGED = 4096  # rows that a rank sends at once
REMEDY = 'Mend or remove it, or have such samples left out: unreadable="skip".'


def embed(
    loader: DataLoader[Any],
    extractor: Callable[[Any], Tensor],
    *,
    name: str = "",
    batch_size: int | None = None,
    cache: str | Path | None = None,
    unreadable: Unreadable = "raise",
    shared: bool = False,
) -> Features:
    """Embed every sample of ``loader``'s data set, in the data set's own order.

    Where the sampler is one of torch's and can give a part of the data set only (a fold), so does this pass: no other
    sample is read, and their rows are NaN.

    Args:
        loader: the training DataLoader; its data set, workers and ``collate_fn`` are used, its sampler's order is not.
        extractor: function of a batch that gives (B, D) features, for example ``pretrained("resnet18")``.
        name: of the extractor, kept with the features.
        batch_size: of this pass; by default the loader's.
        cache: folder where features are kept, as safetensors, for the next time the same data set meets the same
            extractor: by the data set's fingerprint, ``name`` and the weights, where the extractor has a
            ``fingerprint()``, as those of this package do. The first batch is embedded anew and compared, which shows
            a preprocessing that changed. What does not fit or cannot be read is made again, with a message.
        unreadable: what to do when the data set raises an exception for a sample. ``"raise"`` stops with the sample's
            name. ``"skip"`` warns, and gives it the mean of all others, which is near no end of any ranking; such
            features are not kept in ``cache``. Where more than half cannot be read, OSError.
        shared: with several ranks, each embeds its part of the samples and gets the others'; all ranks must call this.
            Not with ``cache``, which one rank may find and another not.

    Raises:
        ValueError: the extractor gives something else than one row a sample, or more than memory can hold; the latter
            shows with the first batch.
    """
    fingerprint, size = dataset_info.fingerprint(loader.dataset), len(loader.dataset)  # pyright: ignore[reportArgumentType]
    part, ranks = sampler_part(loader), Ranks() if shared else None
    if shared and cache is not None:
        raise ValueError(
            "shared=True goes without cache=: a rank that finds the features would not wait for the others."
        )

    def make() -> Features:
        start = time.perf_counter()
        values, done = torch.empty(0, 0, dtype=torch.float32), torch.zeros(size, dtype=torch.bool)
        with in_step(ranks):
            for places, rows in _rows(loader, extractor, batch_size, unreadable, ranks):
                if not len(values):
                    memory.check_fits([memory.rows("features", size, rows.shape[1])])
                    values = torch.empty(size, rows.shape[1], dtype=torch.float32)  # the batches are not held twice
                values[places] = rows.to(values)
                done[places] = True
        exchange(ranks, done, values)
        lost = ~done
        if part is not None:
            values[lost] = torch.nan
            lost = torch.zeros_like(done).index_fill_(0, part, True) & lost
        if lost.any():
            values[lost] = values[done].mean(0)
        return Features(values, fingerprint, name, time.perf_counter() - start, int(lost.sum()))

    if cache is None:
        return make()
    weights = extractor.fingerprint() if hasattr(extractor, "fingerprint") else ""  # pyright: ignore[reportFunctionMemberAccess]
    first = next(_rows(loader, extractor, batch_size, unreadable))
    of = () if part is None else (hashlib.blake2b(part.numpy().tobytes(), digest_size=16).hexdigest(),)
    return cached(Path(cache), (fingerprint, name, weights, *of), size, first, make)


def _rows(
    loader: DataLoader[Any],
    extractor: Callable[[Any], Tensor],
    batch_size: int | None,
    unreadable: Unreadable,
    ranks: Ranks | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of one batch after the other, (B,) the places of its samples in the data set, and their (B, D) features."""
    for batch, places in in_order(loader, batch_size, unreadable, ranks):
        features, expected = extractor(batch), len(places)
        if features.ndim != 2 or len(features) != expected:
            raise ValueError(
                f"The extractor gave {tuple(features.shape)} for a batch of {expected}; expected ({expected}, D), one "
                "row a sample. Average over the other dimensions: features.flatten(2).mean(2)."
            )
        yield places, features.detach()


def in_order(
    loader: DataLoader[Any],
    batch_size: int | None = None,
    unreadable: Unreadable = "raise",
    ranks: Ranks | None = None,
) -> Iterator[tuple[Any, Tensor]]:
    """Every batch of ``loader``'s data set in the data set's own order, and (B,) the places of its samples in it.

    Of what the sampler can give, where that is known to be a part.

    Args:
        unreadable: ``"skip"`` leaves out samples that the data set raises an exception for, and says at the end which.
        ranks: of which this one gets its part, in as many batches as the others: a model under DDP exchanges buffers.

    Raises:
        OSError: more than half of the samples cannot be read.
        Exception: what the data set raised; its note names the sample.
    """
    batch_size = int(batch_size or getattr(loader.batch_sampler, "batch_size", None) or 128)
    # A generator of its own: the pass must not draw from torch's global one, nor from the training's.
    changes: dict[str, Any] = {"batch_size": batch_size, "generator": torch.Generator().manual_seed(0)}
    skip = validation.one_of("unreadable", unreadable, ["raise", "skip"]) == "skip"
    if skip:
        changes |= {"dataset": Tolerant(loader.dataset), "collate_fn": Collate(loader.collate_fn)}
    part = sampler_part(loader)
    if part is None:
        part = torch.arange(len(loader.dataset))  # pyright: ignore[reportArgumentType]
    else:
        changes["sampler"] = part.tolist()
    if ranks is not None and ranks.count > 1:
        chunks = part.split(batch_size * ranks.count)
        part = torch.cat([own if len(own := ranks.share(chunk)) else chunk[:1] for chunk in chunks])
        changes["sampler"] = part.tolist()
    batches, lost = iter(copy_with(loader, **changes)), {}
    for places in part.split(batch_size):
        try:
            batch = next(batches)
        except Exception as error:
            if (found := culprit(error, loader, places.tolist())) is not None:
                error.add_note(f"leantrain: sample {found} (index into the data set) cannot be read. {REMEDY}")
            raise
        if skip:
            read, batch = batch, batch.data
            lost |= {int(places[position]): reason for position, reason in read.failed}
            places = places[read.positions]
        if len(places):
            yield batch, places
    if lost:
        _tell(lost, len(part))


@contextlib.contextmanager
def in_step(ranks: Ranks | None) -> Iterator[None]:
    """An error within on one of ``ranks`` ends all of them: none waits for what does not come."""
    try:
        yield
    except Exception:
        if ranks is not None:
            ranks.any(True)
        raise
    if ranks is not None and ranks.any(False):
        raise RuntimeError("Another rank failed in its part of a pass over the data set; what it raised says why.")


def exchange(ranks: Ranks | None, done: Tensor, *arrays: Tensor) -> None:
    """Fill in the rows of ``arrays`` (N, ...) that other ranks made; ``done`` (N,) bool are those that are there."""
    if ranks is None or ranks.count == 1:
        return
    mine = done.nonzero().flatten()
    for start in range(0, max(map(len, ranks.gather(mine))), EXCHANGED):
        own = mine[start : start + EXCHANGED]
        places = torch.cat(ranks.gather(own))
        for array in arrays:
            array[places] = torch.cat(ranks.gather(array[own]))
        done[places] = True


def _tell(lost: dict[int, str], size: int) -> None:
    index, reason = next(iter(lost.items()))
    told = f"{len(lost):,} of {size:,} samples cannot be read, the first is sample {index}: {reason}."
    if 2 * len(lost) > size:
        raise OSError(f"{told} More than half is no matter of single samples. Is the data set where it was, and whole?")
    warnings.warn(f"{told} They are left out of this pass.", stacklevel=4)


def snapshot(
    model: nn.Module,
    loader: DataLoader[Any],
    *,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    cache: str | Path | None = None,
    unreadable: Unreadable = "raise",
    shared: bool = False,
) -> Sized[Features]:
    """A callable that embeds with ``model`` as it is when called: for ``IDS(features=snapshot(...), start_epoch=5)``.

    Args:
        model: the model being trained; its features are those before its last linear layer.
        loader: the training DataLoader.
        forward: how a batch goes through the model; by default ``model(batch[0])``.
        cache, unreadable: as for ``embed``; the former is of use where a training with the same seed is run again.
        shared: as for ``embed``. The plan of an epoch that needs features then waits for all ranks, and so does a
            ``len(loader)`` that asks for it: ask on all of them.
    """
    name = "snapshot of the model being trained"
    head = last_linear(model)
    options: dict[str, Any] = {"name": name, "cache": cache, "unreadable": unreadable, "shared": shared}
    make = lambda: embed(loader, penultimate(model, forward=forward), **options)  # noqa: E731
    return Sized(make, head.in_features if head else 0)
