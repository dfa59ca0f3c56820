"""Encoded images (files, or bytes from a table): small ones into memory, large ones decoded on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from leantrain.data import label_checks
from leantrain.data.datasets import ImageData, finish
from leantrain.data.images import ArrayDataset, LazyDataset
from leantrain.data.readers.decode import decode_all, dimensions

_SMALL = 128  # pixels; images up to this side are kept in memory ...
_IN_MEMORY = 2 * 10**9  # ... if all of them together are at most so many bytes
_MARGIN = 256 / 224  # how much larger an image is stored than cropped, as usual for ImageNet
_WITH_MARGIN_ABOVE = 64  # pixels; smaller images are used whole


@dataclass(frozen=True)
class Encoded:
    """One split: image files or their bytes, what to call them in errors, and (N,) int64 labels."""

    sources: Sequence[Path | bytes]
    names: Sequence[str]
    targets: Tensor
    where: str

    def take(self, rows: Tensor) -> Encoded:
        """The samples at ``rows``, (n,) int64."""
        picked: list[int] = rows.tolist()
        sources, names = [self.sources[i] for i in picked], [self.names[i] for i in picked]
        return Encoded(sources, names, self.targets[rows], self.where)


def from_encoded(
    name: str,
    train: Encoded,
    test: Encoded,
    classes: Sequence[str],
    *,
    limit: int | None,
    image_size: int | None,
) -> ImageData:
    """Put ImageData together.

    Args:
        limit: keep so many training samples, class-balanced.
        image_size: side that the model gets: the central square of each image is resized to it, or above 64
            pixels to 256/224 of it. None takes the images as they are, all of one square size.

    Raises:
        ValueError: bad labels, an unreadable image, or different sizes without ``image_size``.
    """
    label_checks.check(train.targets, classes, train.where, training=True)
    label_checks.check(test.targets, classes, test.where, training=False)
    train = train.take(label_checks.balanced(train.targets, limit))
    width, height = dimensions(train.sources[0], train.names[0])
    if image_size is None and width != height:
        raise ValueError(f"{train.names[0]} is {width}x{height}, not square. Give image_size to resize and crop all.")
    size = image_size or width
    stored = size if image_size is None or size <= _WITH_MARGIN_ABOVE else round(size * _MARGIN)
    pixels = 3 * stored**2 * (len(train.targets) + len(test.targets))
    if stored <= _SMALL and pixels <= _IN_MEMORY:
        first, second = _decode(train, test, stored, resize=image_size is not None)
    else:
        first, second = (LazyDataset(s.sources, s.names, s.targets, stored) for s in (train, test))
    # A file's size stands for its content; bytes are hashed themselves.
    parts = (
        source if isinstance(source, bytes) else f"{path}\0{source.stat().st_size}".encode(errors="surrogateescape")
        for source, path in zip(train.sources, train.names, strict=True)
    )
    return finish(name, first, second, classes, size, parts)


def _decode(train: Encoded, test: Encoded, stored: int, resize: bool) -> list[ArrayDataset]:
    """Both splits in memory, with as many channels as the richer one has."""
    images = [decode_all(s.sources, s.names, size=stored, resize=resize) for s in (train, test)]
    channels = max(i.shape[1] for i in images)
    images = [i.expand(-1, channels, -1, -1).contiguous() for i in images]
    return [ArrayDataset(i, s.targets) for i, s in zip(images, (train, test), strict=True)]
