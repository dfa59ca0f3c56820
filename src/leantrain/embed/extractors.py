"""Feature extractors: functions of a batch that give (B, D) features, in eval mode and without gradient."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leantrain.scoring.scorer import uncompiled, undisturbed
from leantrain.utils import nested_batch


def penultimate(
    model: nn.Module,
    *,
    layer: nn.Linear | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> "Penultimate":
    """Features before the last linear layer of ``model``, found by a hook during the pass.

    Args:
        model: any model with a linear layer; left as it was found.
        layer: the linear layer whose input counts; by default the last one in ``model.modules()``.
        forward: how a batch goes through the model; by default ``model(batch[0])``.

    Raises:
        ValueError: the model has no linear layer.
    """
    head = layer if layer is not None else last_linear(model)
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no nn.Linear layer to take features before. Pass a function of a batch that "
            "gives (B, D) features instead."
        )

    return Penultimate(model, head, forward)


@dataclass(frozen=True, eq=False)
class Penultimate:
    """What ``penultimate`` gives: the input of ``layer`` while a batch goes through ``model``."""

    model: nn.Module
    layer: nn.Linear
    forward: Callable[[nn.Module, Any], Any] | None

    def __call__(self, batch: Any) -> Tensor:
        device = next(self.model.parameters()).device
        caught: list[Tensor] = []
        hook = self.layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            with undisturbed(self.model, device), uncompiled():
                moved = nested_batch.to(batch, device)
                self.forward(self.model, moved) if self.forward else self.model(moved[0])
        finally:
            hook.remove()
        if not caught:
            raise ValueError("The linear layer was not reached in the forward pass; name another one with layer=.")
        return caught[-1].detach()

    @property
    def width(self) -> int:
        """D, the length of a feature vector."""
        return self.layer.in_features

    def fingerprint(self) -> str:
        """Of the weights and buffers as they are, and of which layer it is."""
        layers = [name for name, module in self.model.named_modules() if module is self.layer]
        content = hashlib.blake2b(f"{type(self.model).__name__}/{layers}".encode(), digest_size=16)
        for name, value in self.model.state_dict().items():
            content.update(f"{name}/{value.dtype}/{tuple(value.shape)}".encode())
            content.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return content.hexdigest()


def last_linear(model: nn.Module) -> nn.Linear | None:
    """The last linear layer in ``model.modules()``; None without any."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None
