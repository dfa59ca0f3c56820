"""The accuracy of an image classifier on its test set. B = samples of a batch."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from leantrain.data import ImageData, require_extra
from leantrain.utils.torchvision_compat import import_torchvision


@torch.no_grad()
def accuracy(
    model: nn.Module, data: ImageData, forward: Callable[..., Any], batch_size: int
) -> tuple[float, list[float]]:
    """Share of the test samples that the model classifies rightly, of all and of each class. Leaves it in eval mode."""
    with contextlib.suppress(ImportError):
        import_torchvision()  # torchmetrics imports it where it is installed
    metrics = require_extra("torchmetrics.classification", "train")
    model.eval()
    classes = len(data.classes)
    alone = {"num_classes": classes, "sync_on_compute": False}  # rank 0 sees all: there is nothing to wait for
    overall = metrics.MulticlassAccuracy(average="micro", **alone)
    per_class = metrics.MulticlassAccuracy(average=None, **alone)
    for batch in DataLoader(data.test, batch_size=max(batch_size, 256), generator=torch.Generator()):
        logits, labels = forward(model, batch)
        overall.update(logits.cpu().float(), labels)
        per_class.update(logits.cpu().float(), labels)
    return float(overall.compute()), [float(value) for value in per_class.compute()]
