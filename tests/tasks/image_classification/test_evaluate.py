"""The accuracy of a classifier against a count sample by sample, to the last digit of a float32."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from leantrain.tasks.image_classification.evaluate import accuracy
from leantrain.utils.torchvision_compat import import_torchvision

CLASSES, SIZE = 7, 600


@dataclass
class Data:
    """What ``accuracy`` reads of a data set."""

    test: Dataset
    classes: tuple[str, ...] = tuple("abcdefg")


def made(dtype=torch.float32):
    """Class scores (N, C), half of them rightly largest, and labels (N,) without class 3."""
    rng = torch.Generator().manual_seed(4)
    labels = torch.randint(CLASSES, (SIZE,), generator=rng)
    labels[labels == 3] = 5
    scores = torch.randn(SIZE, CLASSES, generator=rng)
    right = torch.rand(SIZE, generator=rng) < 0.5
    scores[right, labels[right]] = 9.0
    return scores.to(dtype), labels


def by_hand(scores, labels):
    """Shares of right ones, all in float32: a class without samples has 0."""
    hits, counts = [0] * CLASSES, [0] * CLASSES
    for row, label in zip(scores.float().tolist(), labels.tolist(), strict=True):
        counts[label] += 1
        hits[label] += row.index(max(row)) == label
    share = lambda part, of: float(np.float32(part) / np.float32(of)) if of else 0.0  # noqa: E731
    return share(sum(hits), sum(counts)), [share(*pair) for pair in zip(hits, counts, strict=True)]


def forward(model, batch):
    return model(batch[0]), batch[1]


def test_it_is_that_of_a_count_by_hand():
    for dtype in (torch.float32, torch.bfloat16):
        scores, labels = made(dtype)
        overall, by_class = accuracy(nn.Identity(), Data(TensorDataset(scores, labels)), forward, 16)
        assert (overall, by_class) == by_hand(scores, labels)
        assert by_class[3] == 0.0
        assert 0.5 < overall < 0.7


def test_it_is_that_of_torchmetrics():
    import_torchvision()  # torchmetrics imports it
    metrics = pytest.importorskip("torchmetrics.classification")
    scores, labels = made()
    data = Data(TensorDataset(scores, labels))
    overall, by_class = accuracy(nn.Identity(), data, forward, 16)
    for average, found in (("micro", [overall]), (None, by_class)):
        metric = metrics.MulticlassAccuracy(num_classes=CLASSES, average=average, sync_on_compute=False)
        for part in range(0, SIZE, 256):
            metric.update(scores[part : part + 256], labels[part : part + 256])
        assert metric.compute().reshape(-1).tolist() == found


def test_the_model_is_left_in_eval_mode_without_gradients():
    scores, labels = made()
    model = nn.Sequential(nn.Linear(CLASSES, CLASSES), nn.Dropout(0.9)).train()
    seen = []

    def spying(model, batch):
        out = model(batch[0])
        seen.append((out.requires_grad, model.training))
        return out, batch[1]

    accuracy(model, Data(TensorDataset(scores, labels)), spying, 300)
    assert seen == [(False, False)] * 2
