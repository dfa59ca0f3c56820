"""Extractors with published weights: torchvision's classifiers, SwAV and DINOv2. B = samples of a batch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from leantrain.embed.extractors import Penultimate, penultimate
from leantrain.utils.validation import one_of

SWAV = "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"
DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"
_FILES = (".pth", ".pt", ".tar", ".safetensors")


class Published(NamedTuple):
    """A model with its weights, and the images that it was trained for.

    Args:
        model: ends in a linear layer; what enters that is the features.
        side: in pixels.
        mean, std: of each channel, of values in 0..1.
    """

    model: nn.Module
    side: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def pretrained(
    name: str = "resnet18",
    *,
    weights: str | Path = "DEFAULT",
    images: Callable[[Any], Tensor] | None = None,
    size: int | None = None,
    device: torch.device | str = "cpu",
) -> Penultimate:
    """The penultimate layer of a model trained on other images.

    Args:
        name: any torchvision classifier with published weights, trained on ImageNet; or what the ADONIS and IDS paper
            also tried, trained without labels: ``"swav"``, a ResNet-50 with 2048 features, or ``"dinov2"``, the small
            ViT with 384, which needs timm.
        weights: ``"DEFAULT"``, fetched on first use, for a classifier also another name of published weights; or a file
            with a state dict (``.safetensors``, or ``.pth`` and the like, of which only tensors are read).
        images: how a batch gives its (B, 3, H, W) images, uint8 or floats in 0..1, not normalised; by default
            ``batch[0]``. Grey images are repeated to three channels.
        size: side to which images are resized; by default what the weights were trained for. For DINOv2 224, the
            size at which its authors evaluate it, or another multiple of 14.
        device: where the model runs.

    Raises:
        ValueError: an unknown model or weights name, or a file that does not hold its weights.
        OSError: the weights could not be fetched, or the file is absent; says where to get them.
        ImportError: torchvision or timm is missing.
    """
    made = MODELS.get(name, partial(_classifier, name))(weights)
    made.model.to(device).eval()
    side = size or made.side
    mean = torch.tensor(made.mean, dtype=torch.float32, device=device).view(3, 1, 1)
    std = torch.tensor(made.std, dtype=torch.float32, device=device).view(3, 1, 1)

    def forward(model: nn.Module, batch: Any) -> Any:
        pixels = images(batch) if images else batch[0]
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        pixels = nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
        return model(((pixels.expand(-1, 3, -1, -1) - mean) / std).to(next(model.parameters()).dtype))

    return penultimate(made.model, forward=forward)


def _classifier(name: str, weights: str | Path) -> Published:
    models = _torchvision_models()
    one_of("torchvision model", name, [*MODELS, *models.list_models(module=models)])
    known = models.get_model_weights(name)
    if Path(weights).suffix in _FILES:
        chosen = known.DEFAULT
        model = _undrawn(lambda: models.get_model(name, weights=None))
        _fill(model, _read(weights, name, chosen.url), name, weights)
    else:
        one_of(f"weights of {name}", weights, ["DEFAULT", *known.__members__])
        chosen = known[str(weights)]
        model = _fetched(lambda: models.get_model(name, weights=chosen), name, chosen.url)
    preset = chosen.transforms()
    return Published(model, preset.crop_size[0], tuple(preset.mean), tuple(preset.std))


def _swav(weights: str | Path) -> Published:
    """Caron et al., NeurIPS 2020, arXiv 2006.09882: torchvision's ResNet-50 after 800 epochs without labels."""
    models = _torchvision_models()
    model = _undrawn(lambda: models.resnet50(weights=None))
    model.fc = nn.Identity()
    if weights == "DEFAULT":
        fetch = partial(torch.hub.load_state_dict_from_url, SWAV, map_location="cpu", weights_only=True)
        found = _fetched(fetch, "swav", SWAV)
    else:
        found = _read(weights, "swav", SWAV)
    found = {key.removeprefix("module."): value for key, value in found.items()}
    heads = ("projection_head.", "prototypes.")  # of its training
    _fill(model, {key: value for key, value in found.items() if not key.startswith(heads)}, "swav", weights)
    model.fc = _end(2048)
    return Published(model)


def _dinov2(weights: str | Path) -> Published:
    """Oquab et al., 2023, arXiv 2304.07193: ViT-S/14, distilled; its class token is the features."""
    from leantrain.data import require_extra

    _torchvision_models()  # timm imports torchvision, too
    create = require_extra("timm", "vision").create_model
    # The positions were learnt at 518 pixels; timm interpolates them to the size that comes.
    make = partial(create, "vit_small_patch14_dinov2.lvd142m", num_classes=0, dynamic_img_size=True)
    if weights == "DEFAULT":
        model = _fetched(lambda: make(pretrained=True), "dinov2", DINOV2)
    else:
        found = _read(weights, "dinov2", DINOV2)
        found.pop("mask_token", None)  # of its training; in its authors' file, not in timm's
        model = _undrawn(make)
        _fill(model, found, "dinov2", weights)
    model.head = _end(384)
    return Published(model)


MODELS: dict[str, Callable[[str | Path], Published]] = {"swav": _swav, "dinov2": _dinov2}


def _torchvision_models() -> Any:
    from leantrain.utils.torchvision_compat import import_torchvision

    return import_torchvision().models


def _undrawn(make: Callable[[], Any]) -> Any:
    """What ``make`` makes; its first weights, which others replace, are not drawn from torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return make()


def _end(width: int) -> nn.Linear:
    """A last layer for a model without one: its input, ``width`` features, is what counts."""
    layer: Any = nn.utils.skip_init(nn.Linear, width, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _fetched(make: Callable[[], Any], name: str, url: str) -> Any:
    try:
        return _undrawn(make)
    except (OSError, RuntimeError) as error:  # no network; timm without huggingface_hub
        raise OSError(
            f"The weights of {name} could not be fetched ({error}). Download {url} elsewhere and pass the file: "
            f'pretrained("{name}", weights="{name}.pth"), or features={name}:{name}.pth on the command line.'
        ) from error


def _read(file: str | Path, name: str, url: str) -> dict[str, Tensor]:
    path = Path(file).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected the weights of {name}. Download {url} to there.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file as read
    else:
        read = partial(torch.load, map_location="cpu", weights_only=True)
    try:
        found = read(str(path))
    except Exception as error:  # a damaged file raises nearly every type
        raise ValueError(f"{path} is not a readable file of weights: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"{path} holds no state dict: expected weights by name, as model.state_dict() gives them.")
    return found


def _fill(model: nn.Module, found: dict[str, Tensor], name: str, weights: str | Path) -> None:
    expected = model.state_dict().keys()
    missing, others = sorted(expected - found.keys()), sorted(found.keys() - expected)
    if missing or others:
        told = [
            f"{len(names)} {what}, {names[0]} first"
            for names, what in ((missing, "missing"), (others, "unknown"))
            if names
        ]
        raise ValueError(f"{weights} does not hold the weights of {name}: {'; '.join(told)}.")
    try:
        model.load_state_dict(found)
    except (RuntimeError, TypeError, AttributeError) as error:  # other shapes, or no tensors
        raise ValueError(f"{weights} does not hold the weights of {name}: {error}") from error
