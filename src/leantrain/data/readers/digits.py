"""The handwritten digits that scikit-learn brings along: 1,797 grey 8x8 images, no download."""

import torch

from leantrain.data.datasets import ImageData, from_arrays
from leantrain.utils.optional_import import require_extra

_TEST_SHARE = 0.2
_SPLIT_SEED = 0  # fixed: the data set comes unsplit, and results have to be comparable


def read(limit: int | None, image_size: int | None) -> ImageData:
    """1,437 training and 360 test images, split by class share; pixels scaled from 0..16 to 0..255."""
    datasets = require_extra("sklearn.datasets", "train")
    selection = require_extra("sklearn.model_selection", "train")
    digits = datasets.load_digits()
    train, test = selection.train_test_split(
        range(len(digits.target)), test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=digits.target
    )
    images = (torch.from_numpy(digits.images) * (255 / 16)).round().byte()[:, None]
    targets = torch.from_numpy(digits.target).long()
    classes = [str(name) for name in digits.target_names]
    return from_arrays(
        "digits",
        (images[train], targets[train]),
        (images[test], targets[test]),
        classes,
        limit=limit,
        image_size=image_size,
    )
