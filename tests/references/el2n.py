"""EL2N from logits by hand; GraNd by one backward pass a sample."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def el2n(logits: list[list[float]], targets: list[int]) -> list[float]:
    result = []
    for row, target in zip(logits, targets, strict=True):
        powers = [math.exp(value - max(row)) for value in row]
        probabilities = [power / sum(powers) for power in powers]
        errors = [p - (1 if c == target else 0) for c, p in enumerate(probabilities)]
        result.append(math.sqrt(sum(error * error for error in errors)))
    return result


def grand(model: nn.Module, inputs: Tensor, targets: Tensor, loss_fn: Callable[..., Tensor]) -> list[float]:
    """Norm of the gradient of each sample's loss, ``model`` as it is."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    result = []
    for i in range(len(inputs)):
        loss = loss_fn(model(inputs[i : i + 1]), targets[i : i + 1])
        gradient = torch.autograd.grad(loss, weights)
        result.append(math.sqrt(sum(float((part.double() ** 2).sum()) for part in gradient)))
    return result
