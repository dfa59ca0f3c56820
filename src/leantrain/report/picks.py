"""The most and the least often selected images, the sources' Fig. 8."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .counts import Counts

Images = Callable[[int], np.ndarray]
LARGEST = 128  # pixels of a picture's longer side in the page


@dataclass(frozen=True)
class Pick:
    """One image: its place in the data set, its label, how often it was back-propagated."""

    index: int
    label: int
    trained: float


@dataclass(frozen=True)
class Strip:
    """A row of images. `alike` samples share the count of the strip's last image: above `picks` it is a tie."""

    picks: list[Pick]
    alike: int


def most_and_least(counts: Counts, many: int = 8) -> tuple[Strip, Strip]:
    """The `many` most and least often trained samples; among equal counts the lower index comes first."""
    rising = np.lexsort((counts.index, counts.trained))
    falling = np.lexsort((counts.index, -counts.trained))
    return _strip(counts, falling[:many]), _strip(counts, rising[:many])


def _strip(counts: Counts, rows: np.ndarray) -> Strip:
    picks = [Pick(int(counts.index[r]), int(counts.label[r]), float(counts.trained[r])) for r in rows]
    return Strip(picks, int((counts.trained == counts.trained[rows[-1]]).sum()))


def picture(images: Images, index: int) -> str:
    """``images(index)`` as a PNG data address.

    Raises ValueError where the data set lacks the sample, or the array is not uint8 of shape (H, W) or (H, W, 3).
    """
    try:
        pixels = np.asarray(images(index))
    except IndexError as error:
        raise ValueError(
            f"counts.parquet names sample {index}, which this data set does not hold: the results were made on another "
            "one. Give the data set that they were made on."
        ) from error
    good = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not good or not pixels.size:
        raise ValueError(
            f"images({index}) gave {pixels.dtype} of shape {pixels.shape}; expected uint8 of shape (H, W) or "
            "(H, W, 3). Give the raw picture, before normalisation, channels last."
        )
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
