"""What is known of a data set without reading it: its labels, and what names it. N = its size."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

_UNFIT = (AttributeError, TypeError, ValueError, RuntimeError, OverflowError)


def labels(dataset: Any, targets: Any, size: int) -> Tensor | None:
    """(N,) int64 class labels: those given; else the data set's own, through ``Subset`` and ``ConcatDataset``; or None.

    They go by place, whatever the index of a pandas Series says. Of names, each becomes its place in sorted order.

    Raises:
        TypeError, ValueError: ``targets`` are given, and are not one class label a sample.
    """
    if targets is None:
        found = _own_labels(dataset)
        return _numbered(found) if found is not None and len(found) == size else None
    try:
        found = _column(targets)
    except _UNFIT as error:
        raise TypeError(f"targets must be one class label a sample, as integers or as names: {error}") from error
    if found.shape != (size,) or not _are_labels(found):
        kind = getattr(targets, "dtype", found.dtype)
        raise ValueError(
            f"targets have shape {found.shape} and type {kind}; expected one integer class label for each of the "
            f"{size} samples, or the name of its class."
        )
    return _numbered(found)


def fingerprint(dataset: Any) -> str:
    """Names a data set: its own ``fingerprint`` where it has one, else a hash of its length and its own labels.

    Pictures that changed under the same labels go unseen by the latter; items are not read, they may be augmented. So
    do labels that are names or those of a ``ConcatDataset``, or recordings would have to be made again.
    """
    if own := getattr(dataset, "fingerprint", None):
        return str(own)
    inner = dataset
    while isinstance(inner, Subset):
        inner = inner.dataset
    found = None if isinstance(inner, ConcatDataset) else _own_labels(dataset)
    content = found.astype(np.int64).tobytes() if found is not None and _are_numbers(found) else b""
    return hashlib.blake2b(f"{len(dataset)}/".encode() + content, digest_size=16).hexdigest()


def _own_labels(dataset: Any) -> np.ndarray | None:
    """(N,) integers or names that the data set holds itself, in its own order; None without."""
    for name in ("targets", "labels"):
        try:
            found = _column(getattr(dataset, name))
        except _UNFIT:  # absent; boxes, masks and the like
            continue
        # Names of the classes alone are fewer than the samples; texts differ from one another.
        if found.shape == (_size(dataset, found),) and _are_labels(found) and (_are_numbers(found) or _recur(found)):
            return found
    if isinstance(dataset, Subset):
        inner, places = _own_labels(dataset.dataset), np.asarray(dataset.indices)
        if inner is not None and places.dtype.kind in "iu" and ((places >= -len(inner)) & (places < len(inner))).all():
            return inner[places]
    elif isinstance(dataset, ConcatDataset):
        parts = [part for part in map(_own_labels, dataset.datasets) if part is not None]
        if len(parts) == len(dataset.datasets) and len({_are_numbers(part) for part in parts}) == 1:
            return np.concatenate(parts)
    return None


def _size(dataset: Any, found: np.ndarray) -> int:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):  # only what Subset takes of it has a length
        return found.size


def _column(values: Any) -> np.ndarray:
    """``values`` by place: integers, or names as objects; of another type where they are no labels. May raise."""
    if isinstance(values, Tensor):
        # numpy knows no bfloat16
        return (values.detach().double() if values.is_floating_point() else values).cpu().numpy()
    if isinstance(values, Sequence) and not hasattr(values, "__array__"):
        values = list(values)
        if values and isinstance(values[0], Tensor):
            return _column(torch.as_tensor(values))
        if values and isinstance(values[0], str | bytes):  # as an array, all would become as long as the longest
            return _named(values)
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "OSUT" or not len(found):
        return found
    items = found.tolist()
    if isinstance(items[0], str | bytes):
        return _named(items)
    strange = [item for item in items if not isinstance(item, int | np.integer)]
    if strange:
        raise TypeError(f"one of them is {strange[0]!r:.80}, a {type(strange[0]).__name__}")
    return np.array(items, dtype=np.int64)


def _named(items: list[Any]) -> np.ndarray:
    """(N,) text as objects."""
    strange = [item for item in items if not isinstance(item, str | bytes)]
    if strange:
        raise TypeError(f"one of them is {strange[0]!r:.80}, a {type(strange[0]).__name__}, and others are text")
    found = np.empty(len(items), dtype=object)
    found[:] = [item.decode() if isinstance(item, bytes) else item for item in items]
    return found


def _are_labels(found: np.ndarray) -> bool:
    return found.dtype.kind in "biuO"


def _are_numbers(found: np.ndarray) -> bool:
    return found.dtype != object


def _recur(found: np.ndarray) -> bool:
    return 2 * len({*found.tolist()}) <= len(found)


def _numbered(found: np.ndarray) -> Tensor:
    if _are_numbers(found):
        return torch.from_numpy(found.astype(np.int64))
    items = found.tolist()
    number = {name: place for place, name in enumerate(sorted({*items}))}
    return torch.tensor([number[name] for name in items], dtype=torch.int64)
