"""``ImageData``: what every reader of images returns, and how it is made of arrays or data sets."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leantrain.data import label_checks
from leantrain.data.channel_statistics import mean_std
from leantrain.data.images import ArrayDataset, LazyDataset

_RESIZED_CROP_ABOVE = 64  # pixels; larger images get ImageNet's random crop, smaller ones CIFAR's


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """An image classification data set, ready for training.

    Attributes:
        name: where it came from, for reports.
        train, test: map-style data sets of (uint8 (C, H, W), int) samples, all of one shape.
        targets, test_targets: (N,) int64, the same labels without decoding an image.
        classes: name of each label.
        channels: C, 1 or 3.
        image_size: side in pixels that the model gets; stored images may be larger (256 for 224).
        mean, std: per channel, in the 0..1 scale.
        augment: keyword arguments for ``leantrain.tasks.image_classification.augment.Augment`` that suit the data.
        fingerprint: 32 hexadecimal digits over training images and labels in order, and the size. For
            folders over relative paths, file sizes and labels, since reading every file could take hours.
        condition: what was done to the training set, see ``leantrain.data.conditions``.
        folder: that it was read from, None where it lies in none.
    """

    name: str
    train: ArrayDataset | LazyDataset
    test: ArrayDataset | LazyDataset
    targets: Tensor
    test_targets: Tensor
    classes: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: dict[str, Any]
    fingerprint: str
    condition: str = "clean"
    folder: Path | None = None


def finish(
    name: str,
    train: ArrayDataset | LazyDataset,
    test: ArrayDataset | LazyDataset,
    classes: Sequence[str],
    image_size: int,
    parts: Iterable[bytes],
) -> ImageData:
    """ImageData from its two splits; ``parts`` are what the fingerprint covers beside labels and size."""
    mean, std = mean_std(train, classes)
    return ImageData(
        name=name,
        train=train,
        test=test,
        targets=train.targets,
        test_targets=test.targets,
        classes=tuple(classes),
        channels=len(mean),
        image_size=image_size,
        mean=mean,
        std=std,
        augment=_augment(image_size, len(mean)),
        fingerprint=_fingerprint(parts, train.targets, image_size),
    )


def from_arrays(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: Sequence[str],
    *,
    limit: int | None,
    image_size: int | None,
) -> ImageData:
    """ImageData from (N, C, S, S) uint8 images and (N,) int64 labels of each split.

    Args:
        limit: keep so many training samples, class-balanced.
        image_size: resize to it, bilinear; None keeps S.
    """
    label_checks.check(train[1], classes, f"{name} (train)", training=True)
    label_checks.check(test[1], classes, f"{name} (test)", training=False)
    rows = label_checks.balanced(train[1], limit)
    images, targets = train[0][rows], train[1][rows]
    side = image_size or images.shape[-1]
    splits = ArrayDataset(_resize(images, side), targets), ArrayDataset(_resize(test[0], side), test[1])
    return finish(name, *splits, classes, side, (image.numpy().tobytes() for image in images))


def _augment(size: int, channels: int) -> dict[str, Any]:
    """Crop and flip for natural images; digits and other grey characters are not to be mirrored."""
    if size > _RESIZED_CROP_ABOVE:
        return {"resized_crop": True, "flip": channels == 3}
    return {"pad": max(1, size // 8), "flip": channels == 3}


def _fingerprint(parts: Iterable[bytes], targets: Tensor, size: int) -> str:
    digest = hashlib.blake2b(f"{len(targets)} {size}".encode(), digest_size=16)
    digest.update(targets.to(torch.int64).numpy().astype("<i8").tobytes())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))  # so that moving bytes between parts changes it
        digest.update(part)
    return digest.hexdigest()


def _resize(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    out = [  # in pieces, since float32 takes four times the memory
        F.interpolate(part.float(), size=(side, side), mode="bilinear", antialias=True).round().byte()
        for part in images.split(1024)
    ]
    return torch.cat(out)
