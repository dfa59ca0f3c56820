"""Readers of image data sets: one function, one kind of result, whatever the format on disk."""

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from leantrain.data import conditions, label_checks
from leantrain.data.datasets import ImageData
from leantrain.data.readers import cifar, digits, image_folder, parquet
from leantrain.data.unreadable_images import Unreadable
from leantrain.utils import validation

# reader(folder, limit, image_size, unreadable)
_READERS: dict[str, Callable[[Path, int | None, int | None, Unreadable], ImageData]] = {
    "parquet": parquet.read,
    "imagefolder": image_folder.read,
    "cifar10": lambda folder, limit, image_size, _: cifar.read10(folder, limit, image_size),
    "cifar100": lambda folder, limit, image_size, _: cifar.read100(folder, limit, image_size),
}
_SPECS = ("digits", *(f"{kind}:DIR" for kind in _READERS))


def load(
    spec: str,
    *,
    limit: int | None = None,
    image_size: int | None = None,
    test_limit: int | None = None,
    condition: str = conditions.CLEAN,
    condition_seed: int = 0,
    unreadable: Unreadable = "raise",
) -> ImageData:
    """Read an image classification data set.

    Args:
        spec: ``digits`` (1,797 8x8 images that scikit-learn brings along), ``parquet:DIR`` (Hugging Face layout:
            train.parquet and test.parquet), ``imagefolder:DIR`` (DIR/train/CLASS/*.jpg, DIR/test or DIR/val),
            ``cifar10:DIR`` or ``cifar100:DIR`` (the extracted "python version" that torchvision downloads).
        limit: keep this many training samples, the first of each class, classes as equal as they can be. A
            limit beyond the data set keeps everything. The test set stays whole.
        image_size: side in pixels that the model gets; None keeps small images as they are and takes 224
            for folders of large ones.
        test_limit: keep this many test samples, chosen like those of ``limit``.
        condition, condition_seed: see ``leantrain.data.conditions.under``.
        unreadable: small images are decoded at once; ``"skip"`` leaves out those that cannot be read, with a warning.
            Large ones are decoded when asked for, and an error then names the one that cannot be read: see ``wrap``.

    Returns:
        ImageData with uint8 images; ``Augment(data.mean, data.std, data.image_size, **data.augment)`` turns
        batches of them into model inputs.

    Raises:
        ValueError: an unknown spec, or data that cannot be used; the message names the file, row or column.
        FileNotFoundError: a folder or file that should be there is not.
        ImportError: a reader's package is not installed.
    """
    if not isinstance(spec, str):
        raise TypeError(
            f"data set {spec!r} must be text, such as 'digits' or 'parquet:DIR', not {type(spec).__name__}."
        )
    for option, value in (("limit", limit), ("image_size", image_size), ("test_limit", test_limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{option}={value!r} must be a whole number or None, not {type(value).__name__}.")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}. It is a number of training samples and has to be positive.")
    if test_limit is not None and test_limit < 1:
        raise ValueError(f"test_limit={test_limit}. It is a number of test samples and has to be positive.")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size}. It is a side in pixels and has to be positive.")
    condition = conditions.canonical(condition)  # before anything is read
    validation.one_of("unreadable", unreadable, get_args(Unreadable))
    data = _tested_on(_read(spec, limit, image_size, unreadable), test_limit)
    return conditions.under(data, condition, condition_seed)


def _tested_on(data: ImageData, limit: int | None) -> ImageData:
    if limit is None or limit >= len(data.test_targets):
        return data
    test = data.test.rows(label_checks.balanced(data.test_targets, limit))
    return dataclasses.replace(data, test=test, test_targets=test.targets)


def _read(spec: str, limit: int | None, image_size: int | None, unreadable: Unreadable) -> ImageData:
    kind, colon, where = spec.partition(":")
    if kind == "digits":
        if colon:
            raise ValueError(f"unknown data set {spec!r}: digits comes with scikit-learn and takes no folder.")
        return digits.read(limit, image_size)
    if kind not in _READERS:
        near = difflib.get_close_matches(kind, ["digits", *_READERS], n=1, cutoff=0.4)
        hint = f" Did you mean {next(s for s in _SPECS if s.startswith(near[0]))!r}?" if near else ""
        raise ValueError(f"unknown data set {spec!r}.{hint} Known: {', '.join(_SPECS)}.")
    if not where:
        raise ValueError(f"data set {spec!r} lacks its folder; write {kind}:DIR.")
    path = Path(where).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder. {kind}:DIR expects the folder that holds the data.")
    return dataclasses.replace(_READERS[kind](path, limit, image_size, unreadable), folder=path)
