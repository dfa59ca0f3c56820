"""Feature extractors: functions of a batch that give (B, D) features, in eval mode and without gradient."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leantrain import batches
from leantrain.scoring import uncompiled, undisturbed


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
                moved = batches.to(batch, device)
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


def pretrained(
    name: str = "resnet18",
    *,
    weights: str | Path = "DEFAULT",
    images: Callable[[Any], Tensor] | None = None,
    size: int | None = None,
    device: torch.device | str = "cpu",
) -> "Penultimate":
    """The penultimate layer of a torchvision classifier trained on ImageNet.

    Args:
        name: any torchvision classifier with published weights.
        weights: ``"DEFAULT"`` or another name of published weights, fetched by torchvision on first use; or a file
            with a state dict (``.safetensors``, or ``.pth``, of which only tensors are read).
        images: how a batch gives its (B, 3, H, W) images, uint8 or floats in 0..1, not normalised; by default
            ``batch[0]``. Grey images are repeated to three channels.
        size: side to which images are resized; by default what the weights were trained for.
        device: where the model runs.

    Raises:
        ValueError: an unknown model or weights name, or a file that does not hold its weights.
        OSError: the weights could not be fetched.
    """
    from leantrain._torchvision import import_torchvision
    from leantrain.check import one_of

    models = import_torchvision().models
    one_of("torchvision model", name, models.list_models(module=models))
    published = models.get_model_weights(name)
    local = Path(weights).suffix in (".pth", ".pt", ".safetensors")
    if local:
        model = models.get_model(name, weights=None)
        try:
            model.load_state_dict(_read(Path(weights)))
        except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes, or no tensors
            raise ValueError(f"{weights} does not hold the weights of {name}: {error}") from error
        preset = published.DEFAULT.transforms()
    else:
        one_of(f"weights of {name}", weights, ["DEFAULT", *published.__members__])
        chosen = published[str(weights)]
        preset = chosen.transforms()
        try:
            model = models.get_model(name, weights=chosen)
        except OSError as error:
            raise OSError(
                f"The weights of {name} could not be fetched ({error}). Download {chosen.url} elsewhere and pass the "
                'file: pretrained(..., weights="resnet18.pth").'
            ) from error
    model.to(device).eval()
    side = size or preset.crop_size[0]
    mean = torch.tensor(preset.mean, device=device).view(3, 1, 1)
    std = torch.tensor(preset.std, device=device).view(3, 1, 1)

    def forward(model: nn.Module, batch: Any) -> Any:
        pixels = images(batch) if images else batch[0]
        pixels = pixels / 255 if pixels.dtype == torch.uint8 else pixels
        pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        return model((pixels.expand(-1, 3, -1, -1) - mean) / std)

    return penultimate(model, forward=forward)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a file with the weights of the model.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file as read
    else:
        read = partial(torch.load, map_location="cpu", weights_only=True)
    try:
        return read(str(path))
    except Exception as error:  # a damaged file raises nearly every type
        raise ValueError(f"{path} is not a readable file of weights: {error}") from error
