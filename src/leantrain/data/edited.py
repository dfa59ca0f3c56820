"""Near-copies of images: shifted, of other brightness, cut, encoded again; made when they are asked for.

Letters: N data set, L edits of an image one after the other, C channels, H W height and width in pixels.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from leantrain.data.images import LazyDataset
from leantrain.data.readers.decode import decode
from leantrain.utils.optional_import import require_extra


class EditedDataset(LazyDataset):
    """Images read when asked for, each with its ``edits``, (N, L, 5); see ``edited``."""

    def __init__(
        self, sources: Sequence[Path | bytes], names: Sequence[str], targets: Tensor, size: int, edits: Tensor
    ) -> None:
        super().__init__(sources, names, targets, size)
        self.edits = edits

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, target = super().__getitem__(index)
        for edit in self.edits[index]:
            image = edited(image, edit)
        return image, target

    def rows(self, rows: Tensor) -> "EditedDataset":
        """The samples at ``rows`` (M,), in that order."""
        plain = super().rows(rows)
        return EditedDataset(plain.sources, plain.names, plain.targets, plain.size, self.edits[rows])


def edited(image: Tensor, edit: Tensor) -> Tensor:
    """A (C, H, W) uint8 image after an edit (5,): pixels down and right, gain of brightness, side cut out, quality.

    The middle square of that side is resized to the image's size; a quality of 0 leaves out the encoding as JPEG.
    """
    down, right, gain, side, quality = edit.tolist()
    return encoded(cut(jitter(image, [int(down), int(right)], gain), int(side)), int(quality))


def jitter(image: Tensor, shift: list[int], gain: float) -> Tensor:
    """A (C, H, W) uint8 image moved ``shift`` pixels down and right, its edge continued, ``gain`` times as bright."""
    (_, height, width), (down, right) = image.shape, shift
    moved = image[:, (torch.arange(height) - down).clamp(0, height - 1)]
    moved = moved[:, :, (torch.arange(width) - right).clamp(0, width - 1)]
    return (moved.float() * gain).round().clamp(0, 255).byte() if gain != 1 else moved


def cut(image: Tensor, side: int) -> Tensor:
    """The middle square of ``side`` pixels, resized to the image's size."""
    _, height, width = image.shape
    if side == height == width:
        return image
    top, left = (height - side) // 2, (width - side) // 2
    inner = image[None, :, top : top + side, left : left + side].float()
    resized = F.interpolate(inner, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized[0].round().clamp(0, 255).byte()


def encoded(image: Tensor, quality: int) -> Tensor:
    """A (C, H, W) uint8 image, C 1 or 3, as JPEG of ``quality`` gives it back."""
    if not quality:
        return image
    picture = require_extra("PIL.Image", "train")
    buffer = io.BytesIO()
    picture.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue(), "a near-copy", mode="L" if len(image) == 1 else "RGB")
