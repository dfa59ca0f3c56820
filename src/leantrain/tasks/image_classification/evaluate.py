"""The accuracy of an image classifier on its test set. C = classes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from leantrain.data import ImageData


@torch.no_grad()
def accuracy(
    model: nn.Module, data: ImageData, forward: Callable[..., Any], batch_size: int
) -> tuple[float, list[float]]:
    """Share of the test samples that the model classifies rightly, of all and of each class. Leaves it in eval mode.

    0 for a class without test samples.
    """
    model.eval()
    classes = len(data.classes)
    right, shown = torch.zeros(2, classes, dtype=torch.long)  # (C,) each
    for batch in DataLoader(data.test, batch_size=max(batch_size, 256), generator=torch.Generator()):
        scores, labels = forward(model, batch)
        shown += labels.bincount(minlength=classes)
        right += labels[scores.cpu().float().argmax(dim=1) == labels].bincount(minlength=classes)
    return float(right.sum() / shown.sum()), (right / shown.clamp(min=1)).tolist()
