"""Encoded images (files, or bytes from a table): small ones into memory, large ones decoded on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from leantrain.data import label_checks, unreadable_images
from leantrain.data.datasets import ImageData, finish
from leantrain.data.images import ArrayDataset, LazyDataset
from leantrain.data.readers.decode import UnreadableError, decode_all, dimensions
from leantrain.data.unreadable_images import Unreadable

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

    def take(self, rows: Tensor) -> "Encoded":
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
    unreadable: Unreadable = "raise",
) -> ImageData:
    """Put ImageData together.

    Args:
        limit: keep so many training samples, class-balanced.
        image_size: side that the model gets: the central square of each image is resized to it, or above 64
            pixels to 256/224 of it. None takes the images as they are, all of one square size.
        unreadable: whether images that cannot be read are left out, where all are decoded at once. Those that are
            decoded when asked for are the business of who asks.

    Raises:
        ValueError: bad labels, an unreadable image, or different sizes without ``image_size``.
    """
    label_checks.check(train.targets, classes, train.where, training=True)
    label_checks.check(test.targets, classes, test.where, training=False)
    train = train.take(label_checks.balanced(train.targets, limit))
    width, height = first_dimensions(train, unreadable)
    if image_size is None and width != height:
        raise ValueError(f"{train.names[0]} is {width}x{height}, not square. Give image_size to resize and crop all.")
    size = image_size or width
    stored = size if image_size is None or size <= _WITH_MARGIN_ABOVE else round(size * _MARGIN)
    pixels = 3 * stored**2 * (len(train.targets) + len(test.targets))
    if stored <= _SMALL and pixels <= _IN_MEMORY:
        (train, first), (test, second) = (
            _decode(split, stored, unreadable, resize=image_size is not None) for split in (train, test)
        )
        channels = max(first.shape[1], second.shape[1])  # as many as the richer split has
        first, second = (
            ArrayDataset(images.expand(-1, channels, -1, -1).contiguous(), split.targets)
            for split, images in ((train, first), (test, second))
        )
    else:
        first, second = (LazyDataset(s.sources, s.names, s.targets, stored) for s in (train, test))
    # A file's size stands for its content; bytes are hashed themselves.
    parts = (
        source if isinstance(source, bytes) else f"{path}\0{source.stat().st_size}".encode(errors="surrogateescape")
        for source, path in zip(train.sources, train.names, strict=True)
    )
    return finish(name, first, second, classes, size, parts)


def first_dimensions(split: Encoded, unreadable: Unreadable) -> tuple[int, int]:
    """(width, height) of the first image, or of the first that can be read."""
    for source, name in zip(split.sources, split.names, strict=True):
        try:
            return dimensions(source, name)
        except UnreadableError:
            if unreadable == "raise":
                raise
    raise ValueError(f"{split.where}: none of the {len(split.targets)} images can be read.")


def _decode(split: Encoded, stored: int, unreadable: Unreadable, resize: bool) -> tuple[Encoded, Tensor]:
    """(n, C, S, S) uint8 of a split, and the split without what could not be read."""
    images, broken = decode_all(split.sources, split.names, size=stored, resize=resize)
    kept = unreadable_images.left_out(broken, len(images), split.where, unreadable)
    return (split.take(kept), images[kept]) if broken else (split, images)
