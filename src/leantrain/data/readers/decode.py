"""Encoded images to uint8 tensors, with an error that names the sample.

Pillow decodes in C without the interpreter lock, so a pool of threads keeps all cores busy.
"""

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leantrain.utils.optional_import import require_extra

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats that Pillow decodes by itself; it would hand others (EPS) to an external program.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_MAX_PIXELS = 89_478_485  # Pillow's own limit: above it, a few kB can claim gigabytes
_COPIED = ("RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "RGBX")  # four bytes a pixel, twice: before and after conversion
_LARGE = 2**24  # pixels; above, one image at a time, or the pool would hold gigabytes of them
_one_large = threading.Semaphore()
_CHUNK = 256  # images per task of the pool; one by one, the pool costs more than a small image


class UnreadableError(ValueError):
    """One image that cannot be read; the others may be."""


class MissingError(UnreadableError, FileNotFoundError):
    """One whose file is not there."""


def decode(
    source: Path | bytes, name: str, *, size: int | None = None, mode: str | None = None, side: int | None = None
) -> Tensor:
    """Decode one image.

    Args:
        source: an image file, or the bytes of one.
        name: for errors.
        size: resize the central square to it; None keeps the image as it is.
        mode: "L" or "RGB"; None keeps greyscale images at one channel and makes the rest RGB.
        side: an image that is not side x side is refused, and not decoded.

    Returns:
        (1 or 3, H, W) uint8.

    Raises:
        UnreadableError: not an image, truncated, too large, gone, or of a kind that 8 bits would distort.
        ValueError: of another ``side``.
    """
    with ExitStack() as alone:
        image = _open(source, name, alone, side)
        mode = mode or ("L" if image.mode in ("1", "L") else "RGB")
        image = image if image.mode == mode else image.convert(mode)  # which would copy it
        if size is not None:
            image = _fit(image, size)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1)


def decode_all(
    sources: Sequence[Path | bytes], names: Sequence[str], *, size: int, resize: bool
) -> tuple[Tensor, dict[int, UnreadableError]]:
    """Decode all images into one (N, C, size, size) uint8 tensor; C is 1 if all are greyscale, else 3.

    Args:
        resize: crop and resize to ``size``; without it, an image of another size is an error.

    Returns:
        The images, and by position those that cannot be read, which are black.

    Raises:
        ValueError: an image is not size x size.
    """
    broken: dict[int, UnreadableError] = {}

    def image(position: int) -> Tensor:
        wanted: dict[str, Any] = {"size" if resize else "side": size}
        try:
            return decode(sources[position], names[position], **wanted)
        except UnreadableError as error:
            broken[position] = error
            return torch.zeros(1, size, size, dtype=torch.uint8)

    def chunk(start: int) -> Tensor:
        images = [image(position) for position in range(start, min(start + _CHUNK, len(sources)))]
        channels = max(image.shape[0] for image in images)
        return torch.stack([image.expand(channels, -1, -1) for image in images])

    parts = list(_at_once(chunk, range(0, len(sources), _CHUNK)))
    channels = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, channels, -1, -1) for part in parts]), dict(sorted(broken.items()))


def try_all(sources: Sequence[Path | bytes], names: Sequence[str]) -> dict[int, UnreadableError]:
    """By position, the images that cannot be read: all are decoded, and none is kept."""

    def failure(position: int) -> UnreadableError | None:
        try:
            with ExitStack() as alone:
                _open(sources[position], names[position], alone)
        except UnreadableError as error:
            return error
        return None

    return {position: error for position, error in enumerate(_at_once(failure, range(len(sources)))) if error}


def _at_once(function: Callable[[int], Any], over: range) -> Iterator[Any]:
    with ThreadPoolExecutor(_cores()) as pool:
        yield from pool.map(function, over)


def dimensions(source: Path | bytes, name: str) -> tuple[int, int]:
    """(width, height) in pixels from the header alone."""
    return _open(source, name).size


def _open(source: Path | bytes, name: str, load: ExitStack | None = None, side: int | None = None) -> "Image":
    """An image, its header read; and its pixels if ``load``, which holds back others while this one is large."""
    pil = require_extra("PIL.Image", "train")
    name = name if name.isprintable() else ascii(name)
    try:
        with pil.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image:
            pixels = _pixels(image)
            if pixels > _MAX_PIXELS:
                raise pil.DecompressionBombError
            fits = side is None or image.size == (side, side)
            if load and fits:
                if pixels > _LARGE:
                    load.enter_context(_one_large)
                image.load()
            opened = image
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise UnreadableError(
            f"{name} claims more than {_MAX_PIXELS:,} pixels, which is refused as a decompression bomb (one in "
            f"{', '.join(_COPIED)} counts twice). Remove it or store it smaller."
        ) from error
    except FileNotFoundError as error:
        raise MissingError(f"{name} is gone; it was there when the data set was read.") from error
    except Exception as error:  # Pillow's plugins raise nearly every type on broken files
        raise UnreadableError(f"{name} is not a readable image (corrupt or truncated): {error}") from error
    if not fits:
        raise ValueError(
            f"{name} is {opened.width}x{opened.height}; the first training image is {side}x{side}. Give image_size to "
            "bring all images to one size."
        )
    if opened.mode.startswith(("I", "F")):
        raise UnreadableError(f"{name} has more than 8 bits a channel (mode {opened.mode}); convert it to 8 bits.")
    return opened


def _pixels(image: "Image") -> int:
    """What decoding holds in memory: a TIFF's tile whole, even where the image is smaller; a copy of what is turned."""
    tags = getattr(image, "tag_v2", {})
    pixels = max(image.width * image.height, int(tags.get(322, 0)) * int(tags.get(323, 0)))
    return pixels * 2 if image.mode in _COPIED or tags.get(274, 1) != 1 else pixels


def _fit(image: "Image", size: int) -> "Image":
    """The central square, resized to ``size``, bilinear with antialiasing.

    Cropping first bounds the memory: resizing the shorter side of a 1 x 1,000,000 image would not.
    """
    pil = require_extra("PIL.Image", "train")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), pil.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _cores() -> int:
    """Cores this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
