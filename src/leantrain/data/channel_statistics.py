"""Mean and standard deviation of the pixels, from the literature where the data set is known."""

from collections.abc import Sequence

import torch

from leantrain.data.images import ArrayDataset, LazyDataset

Moments = tuple[tuple[float, ...], tuple[float, ...]]

CIFAR10: Moments = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100: Moments = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET: Moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_FIRST = ("apple", "aquarium_fish", "baby")


def mean_std(train: ArrayDataset | LazyDataset, classes: Sequence[str]) -> Moments:
    """(mean, std) per channel in the 0..1 scale.

    CIFAR-10 and CIFAR-100 are recognised by their class names, whatever the format. Images decoded when asked
    for get ImageNet's values, as measuring would read them all. Everything else is measured.
    """
    if isinstance(train, LazyDataset):
        return IMAGENET
    if train.images.shape[1] == 3 and tuple(classes) == _CIFAR10_CLASSES:
        return CIFAR10
    if train.images.shape[1] == 3 and len(classes) == 100 and tuple(classes[:3]) == _CIFAR100_FIRST:
        return CIFAR100
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(train.images.shape[1]):
        counts = torch.bincount(train.images[:, channel].flatten(), minlength=256).double()
        share = counts / counts.sum()
        mean = (share * levels).sum()
        means.append(float(mean))
        # At least one grey level, so that a constant channel does not divide by zero.
        stds.append(max(float((share * (levels - mean) ** 2).sum().sqrt()), 1 / 255))
    return tuple(means), tuple(stds)
