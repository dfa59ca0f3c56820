"""Last-layer gradients of every sample, as their two factors. N samples, B of a batch, C classes, D features."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain.core import dataset_info
from leantrain.core.inputs import Sized
from leantrain.distributed.process_group import Ranks
from leantrain.embed.extractors import last_linear
from leantrain.embed.passes import Unreadable, exchange, in_order, in_step
from leantrain.scoring.scorer import read_pair, uncompiled, undisturbed
from leantrain.utils import memory, nested_batch
from leantrain.utils.sampler_pool import sampler_part


@dataclass(frozen=True, slots=True)
class Gradients:
    """The gradient of each sample's cross-entropy in the last linear layer.

    That of the layer's weight is the outer product of sample i's two rows, delta_i (x) h_i, and that of its bias
    delta_i; kept apart they take C + D numbers a sample instead of C * (D + 1).

    Args:
        delta: (N, C) float32, softmax minus one-hot target.
        features: (N, D) float32, inputs of the layer.
        fingerprint: of the data set; empty when unknown.
        seconds: how long the pass took.
        read: (M,) int64, the samples that the DataLoader's sampler can give, where that is not all; the rows of all
            others are NaN.
    """

    delta: Tensor
    features: Tensor
    fingerprint: str = ""
    seconds: float = 0.0
    read: Tensor | None = None


def gradients(
    model: nn.Module,
    loader: DataLoader[Any],
    *,
    layer: nn.Module | str | None = None,
    forward: Callable[[nn.Module, Any], tuple[Any, Any]] | None = None,
    batch_size: int | None = None,
    unreadable: Unreadable = "raise",
    shared: bool = False,
) -> Sized[Gradients]:
    """A callable that makes the gradients with ``model`` as it is when called: ``GradMatch(gradients=gradients(...))``.

    Each call is one forward pass over the data set, in its own order, in eval mode and without gradient; the model is
    left as it was found.

    Args:
        model: a classifier trained with cross-entropy that ends in a linear layer.
        loader: the training DataLoader; its data set, workers and ``collate_fn`` are used, its sampler as by ``embed``.
        layer: the layer that gives the class scores, itself or by its name in the model; by default the last
            ``nn.Linear`` in ``model.modules()``.
        forward: how a batch becomes (outputs, targets), as for ``scorer``; by default a batch is (inputs, targets).
        batch_size: of this pass; by default the loader's.
        unreadable: as for ``embed``; with ``"skip"``, what cannot be read has no gradient: zeros.
        shared: as for ``snapshot``.

    Raises:
        ValueError: the model has no such layer, it was not reached, or does not give (B, C) scores from (B, D)
            features; its gradients are more than memory can hold, which shows with the first batch.
        TypeError: the targets are not one class label a sample.
    """
    head, forward = _head(model, layer), forward or read_pair

    def make() -> Gradients:
        start = time.perf_counter()
        size = len(loader.dataset)  # pyright: ignore[reportArgumentType]
        delta = features = torch.empty(0, dtype=torch.float32)
        ranks, done = Ranks() if shared else None, torch.zeros(size, dtype=torch.bool)
        with in_step(ranks):
            for batch, places in in_order(loader, batch_size, unreadable, ranks):
                part, h = _factors(model, head, forward, batch, len(places))
                if not len(delta):  # at once, since joining parts at the end would hold them twice
                    memory.check_fits([memory.rows("gradients, as their factors", size, part.shape[1] + h.shape[1])])
                    delta = torch.zeros(size, part.shape[1], dtype=torch.float32)
                    features = torch.zeros(size, h.shape[1], dtype=torch.float32)
                delta[places], features[places], done[places] = part.to(delta), h.to(features), True
        exchange(ranks, done, delta, features)
        read = sampler_part(loader)
        if read is not None:
            other = torch.ones(size, dtype=torch.bool).index_fill_(0, read, False)
            delta[other], features[other] = torch.nan, torch.nan
        return Gradients(delta, features, dataset_info.fingerprint(loader.dataset), time.perf_counter() - start, read)

    width, classes = (getattr(head, name, 0) for name in ("in_features", "out_features"))
    return Sized(make, width, classes, len(loader.dataset))  # pyright: ignore[reportArgumentType]


def _head(model: nn.Module, layer: nn.Module | str | None) -> nn.Module:
    if isinstance(layer, nn.Module):
        return layer
    if isinstance(layer, str):
        named = dict(model.named_modules())
        if layer not in named:
            linear = [name for name, module in named.items() if isinstance(module, nn.Linear)]
            known = ", ".join(linear) or "none"
            raise ValueError(f"{type(model).__name__} has no layer named {layer!r}. Its linear layers: {known}.")
        return named[layer]
    head = last_linear(model)
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no nn.Linear layer, whose gradients these would be. Name the layer that gives "
            "the class scores: layer=..."
        )
    return head


def _factors(
    model: nn.Module, head: nn.Module, forward: Callable[..., tuple[Any, Any]], batch: Any, expected: int
) -> tuple[Tensor, Tensor]:
    """(B, C) delta and (B, D) inputs of ``head`` of one batch."""
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    caught: list[tuple[Any, Any]] = []
    hook = head.register_forward_hook(lambda module, inputs, output: caught.append((inputs[0], output)))
    try:
        with undisturbed(model, device), uncompiled():
            targets = forward(model, nested_batch.to(batch, device))[1]
    finally:
        hook.remove()
    if not caught:
        raise ValueError("The last linear layer was not reached in the forward pass; name another one with layer=.")
    if len(caught) > 1:
        raise ValueError(
            f"The linear layer ran {len(caught)} times in one forward pass. Its gradient is then no outer product. "
            "Name another one: layer=..."
        )
    features, logits = (tensor.detach().float() for tensor in caught[0])
    if features.ndim != 2 or logits.ndim != 2 or not len(features) == len(logits) == expected:
        raise ValueError(
            f"The layer makes {tuple(logits.shape)} of {tuple(features.shape)} for a batch of {expected}; expected "
            f"({expected}, C) class scores of ({expected}, D) features, one row a sample. Name another one with layer=."
        )
    delta = logits.softmax(dim=1)
    delta[torch.arange(expected, device=device), _labels(targets, expected, delta.shape[1]).to(device)] -= 1
    return delta, features


def _labels(targets: Any, expected: int, classes: int) -> Tensor:
    what = f"shape {tuple(targets.shape)} and type {targets.dtype}" if isinstance(targets, Tensor) else type(targets)
    if not isinstance(targets, Tensor) or targets.shape != (expected,) or targets.is_floating_point():
        raise TypeError(
            f"Gradients of the last layer are those of cross-entropy with one class label a sample; the targets are "
            f"{what}, expected ({expected},) integers. Multi-label and regression targets have other gradients."
        )
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise ValueError(
            f"The targets go from {int(targets.min())} to {int(targets.max())}; the layer scores {classes} classes, 0 "
            f"to {classes - 1}. Is it the last layer? Name another one with layer=."
        )
    return targets.long()
