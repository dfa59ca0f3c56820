"""The images a method selects least and most often, or ranks nearest and remotest: the sources' Fig. 8."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from leantrain.report.counts import Counts

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
    """A row of images. `alike` samples have what the strip's last image has: above `picks` it is a tie."""

    what: str
    picks: list[Pick]
    alike: int


def least_and_most(counts: Counts, many: int = 8) -> tuple[Strip, Strip]:
    """The `many` least and most often trained samples; among equal counts the lower index comes first."""
    return _ends(counts, counts.trained, ("least often", "most often"), many)


def of_class(counts: Counts, label: int, many: int = 8) -> tuple[Strip, Strip] | None:
    """Of one class: the samples nearest to the prototype and remotest from it, nearest and remotest first.

    Where the method knows no such distance, those least and most often trained; None where it has no such sample.
    """
    own = counts.take(counts.label == label)
    if not len(own.index):
        return None
    known = own.take(~np.isnan(own.distance))
    if not len(known.index):
        return least_and_most(own, many)
    return _ends(known, known.distance, ("nearest to the prototype", "remotest from it"), many)


def _ends(counts: Counts, by: np.ndarray, words: tuple[str, str], many: int) -> tuple[Strip, Strip]:
    low, high = np.lexsort((counts.index, by))[:many], np.lexsort((counts.index, -by))[:many]
    return _strip(counts, by, low, words[0]), _strip(counts, by, high, words[1])


def _strip(counts: Counts, by: np.ndarray, rows: np.ndarray, what: str) -> Strip:
    picks = [Pick(int(counts.index[r]), int(counts.label[r]), float(counts.trained[r])) for r in rows]
    return Strip(what, picks, int((by == by[rows[-1]]).sum()))


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
