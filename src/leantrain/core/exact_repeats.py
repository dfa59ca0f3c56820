"""Which samples of a data set are stored alike, byte for byte: found by hash, without loading or augmenting one.

N = size of the data set. What is stored of a sample are its parts: an image file, or bytes in memory, or several.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

_END = 4096  # bytes of a part that are read before the whole: few files of one size also end alike
_CHUNK = 2**20  # bytes of a file in memory at once

# Where the samples lie in data sets that are known, by the package and name of their class or of one that it inherits.
_STORED = {
    "leantrain": {"ArrayDataset": "images", "Resident": "images", "LazyDataset": "sources"},
    "torchvision": {"DatasetFolder": "samples", "CIFAR10": "data", "MNIST": "data", "SVHN": "data", "STL10": "data"},
}

_Parts = tuple[Any, ...]  # of a sample: each a Path, or something that has a buffer
_Stored = Callable[[int], _Parts]


def same_content(dataset: Any, *, with_labels: bool = False) -> Tensor:
    """(N,) int64: of each sample the first that is stored alike, or itself. Labels do not count.

    Compared by a hash of 128 bits of what is stored: pixels or bytes in memory, or files. Of these are read only those
    that have the size of another, and whole only those that also end alike. A file that cannot be read is like no
    other; who loads it will be told.

    Args:
        dataset: of leantrain's readers; a folder, CIFAR, MNIST, SVHN or STL10 of torchvision; one of Hugging Face with
            images; a ``TensorDataset``, of which the first tensor counts; ``Subset`` and ``ConcatDataset`` of these.
        with_labels: of a ``TensorDataset`` all tensors count.

    Raises:
        TypeError: a data set of another kind.
    """
    stored, size = _stored(dataset, with_labels), len(dataset)
    first, open_ = np.arange(size), np.arange(size)
    group = open_
    for key in (_sizes, _ends, _wholes):  # each looks at more, of fewer samples
        found = np.fromiter((_hash(key, stored(i), i) for i in open_.tolist()), "S16", len(open_))
        _, group, counts = np.unique(found, return_inverse=True, return_counts=True)
        open_, group = open_[counts[group] > 1], group[counts[group] > 1]
    firsts, places = np.unique(group, return_index=True)  # samples stand in ascending order
    first[open_] = open_[places][np.searchsorted(firsts, group)]
    return torch.from_numpy(first)


def _stored(dataset: Any, with_labels: bool) -> _Stored:
    """What gives the parts of a sample."""
    if isinstance(dataset, Subset):
        inner, places = _stored(dataset.dataset, with_labels), dataset.indices
        return lambda i: inner(int(places[i]))
    if isinstance(dataset, ConcatDataset):
        starts, inners = [0, *dataset.cumulative_sizes], [_stored(part, with_labels) for part in dataset.datasets]
        return lambda i: inners[k := bisect_right(starts, i) - 1](i - starts[k])
    if isinstance(dataset, TensorDataset):
        return _columns(*dataset.tensors[: None if with_labels else 1])
    for kind in type(dataset).__mro__:
        package, name = kind.__module__.partition(".")[0], kind.__name__
        if column := _STORED.get(package, {}).get(name):
            edits = getattr(dataset, "edits", None)  # of near-copies, made when they are read
            return _columns(getattr(dataset, column), *([] if edits is None else [edits]))
        if (package, name) == ("datasets", "Dataset") and (images := _image_columns(dataset)):
            return _encoded(dataset, images)
    raise TypeError(
        f"{type(dataset).__name__} does not show what it stores: exact repeats are found in the data sets of "
        "leantrain's readers, torchvision's folders, CIFAR, MNIST, SVHN and STL10, those of Hugging Face with images, "
        "a TensorDataset, and Subset and ConcatDataset of these."
    )


def _image_columns(dataset: Any) -> list[str]:
    return [name for name, feature in dataset.features.items() if type(feature).__name__ == "Image"]


def _encoded(dataset: Any, images: list[str]) -> _Stored:
    """Of a Hugging Face data set: its images as they lie in the file, whatever its format or transform gives."""
    from datasets import Image  # pyright: ignore[reportMissingImports] - there is one, so that it is installed

    plain = dataset.with_format(None).select_columns(images)
    for name in images:
        plain = plain.cast_column(name, Image(decode=False))

    def stored(i: int) -> _Parts:
        row = plain[i]
        return tuple(row[name]["bytes"] or Path(row[name]["path"]) for name in images)

    return stored


def _columns(*columns: Any) -> _Stored:
    rows = [_bytes(column) if isinstance(column, Tensor | np.ndarray) else column for column in columns]
    return lambda i: tuple(_part(column[i]) for column in rows)


def _bytes(column: Tensor | np.ndarray) -> np.ndarray:
    """(N, bytes of a row) uint8."""
    shape = len(column), math.prod(column.shape[1:])
    if isinstance(column, Tensor):
        return column.detach().cpu().reshape(shape).contiguous().view(torch.uint8).numpy()
    return np.ascontiguousarray(column).reshape(shape).view(np.uint8)


def _part(source: Any) -> Any:
    source = source[0] if isinstance(source, tuple) else source  # torchvision: (path, label)
    return Path(source) if isinstance(source, str) else source


def _hash(key: Callable[[_Parts], Iterable[bytes]], parts: _Parts, place: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    try:
        for piece in key(parts):
            digest.update(piece)
    except OSError:
        digest.update(f"unreadable: {place}".encode())
    return digest.digest()


def _sizes(parts: _Parts) -> Iterator[bytes]:
    return (f"{_size(part)} ".encode() for part in parts)


def _ends(parts: _Parts) -> Iterator[bytes]:
    return (piece for part in parts for piece in _read(part, max(0, _size(part) - _END)))


def _wholes(parts: _Parts) -> Iterator[bytes]:
    return (piece for part in parts for piece in (f"{_size(part)} ".encode(), *_read(part, 0)))


def _size(part: Any) -> int:
    return part.stat().st_size if isinstance(part, Path) else memoryview(part).nbytes


def _read(part: Any, start: int) -> Iterator[Any]:
    if not isinstance(part, Path):
        yield memoryview(part)[start:]
        return
    with part.open("rb") as file:
        file.seek(start)
        while piece := file.read(_CHUNK):
            yield piece
