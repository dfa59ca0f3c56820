"""Image classifiers by name: those of ``networks``, torchvision's and timm's.

The models of ``networks`` end in an ``nn.Linear`` head, which embedding passes hook; so do most of the others.
"""

import difflib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from leantrain.tasks.image_classification import networks
from leantrain.tasks.image_classification.vit import SmallViT
from leantrain.tasks.image_classification.wide_resnet import WideResNet
from leantrain.utils.optional_import import require_extra


def build(
    name: str,
    *,
    classes: int,
    channels: int = 3,
    image_size: int = 32,
    width: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """Build an untrained classifier on the CPU.

    Args:
        name: one of ``names()``, a torchvision classifier (``resnet18`` or ``torchvision:resnet18``), or
            ``timm:NAME``. torchvision's and timm's are meant for images of about 224 pixels.
        classes: C, size of the head.
        channels: of the input, 1 or 3 as a rule.
        image_size: side of the input in pixels; only the models tied to one size (transformers) use it.
        width: channels of the first stage of this file's own models; None for the usual width.
        seed: of the initial weights. The global generator is put back as it was.

    Raises:
        ValueError: an unknown name (the nearest known ones are listed), or a setting out of range or
            without effect.
        ImportError: the model needs torchvision or timm, which is not installed.
    """
    if classes < 2:
        raise ValueError(f"classes={classes}; a classifier needs at least 2.")
    if channels < 1 or image_size < 1 or (width is not None and width < 1):
        raise ValueError(f"channels={channels}, image_size={image_size}, width={width}; each has to be positive.")
    if width is not None and name not in _OWN:
        raise ValueError(f"width={width} has no effect on {name!r}; only {', '.join(_OWN)} take it.")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if name in _OWN:
            settings = {} if width is None else {"width": width}
            if "image_size" in inspect.signature(_OWN[name]).parameters:
                settings["image_size"] = image_size
            model = _OWN[name](classes, channels, **settings)
        elif name.startswith("timm:"):
            model = _timm(name.removeprefix("timm:"), classes, channels, image_size)
        else:
            model = _torchvision(name, classes, channels, image_size)
        return model.float()  # as the images are, whatever torch's default dtype


def names() -> tuple[str, ...]:
    """The models of this file; torchvision's and timm's names come on top."""
    return tuple(_OWN)


def default_width(name: str) -> int | None:
    """Channels of the first stage of a model of this file; None for others, which have no such setting."""
    return inspect.signature(_OWN[name]).parameters["width"].default if name in _OWN else None


def _torchvision(name: str, classes: int, channels: int, image_size: int) -> nn.Module:
    from leantrain.utils.torchvision_compat import import_torchvision

    models = import_torchvision().models
    known = models.list_models(module=models)
    short = name.removeprefix("torchvision:")
    if short not in known:
        offered = known if name != short else [*_OWN, *known]
        raise ValueError(f"unknown model {name!r}. {_nearest(short, offered)} timm's models start with 'timm:'.")
    extra: dict[str, object] = {}
    if short.startswith("vit_"):
        extra = {"image_size": image_size}
    elif short in ("googlenet", "inception_v3"):  # one output, not three
        extra = {"aux_logits": False, "init_weights": True}
    model = models.get_model(short, weights=None, num_classes=classes, **extra)
    if channels != 3:
        _replace_first_conv(model, channels)
    return model


def _timm(name: str, classes: int, channels: int, image_size: int) -> nn.Module:
    from leantrain.utils.torchvision_compat import import_torchvision

    import_torchvision()  # timm imports it, too
    timm = require_extra("timm", "vision", f"timm:{name}")
    if not timm.is_model(name):
        raise ValueError(f"unknown timm model {name!r}. {_nearest(name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    extra: dict[str, Any] = {}
    if config is not None and config.fixed_input_size:
        extra["img_size"] = image_size
    return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **extra)


def _replace_first_conv(model: nn.Module, channels: int) -> None:
    """Give the first convolution ``channels`` inputs; torchvision's constructors have no setting for it."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.in_channels = channels
    first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, channels, *first.kernel_size))
    first.reset_parameters()


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Nearest names: {', '.join(close)}." if close else f"Known here: {', '.join(_OWN)}."


_OWN: dict[str, Callable[..., nn.Module]] = {
    "small": networks.small,
    "tiny-resnet": networks.tiny,
    "resnet18-32": partial(networks.resnet32, networks.BasicBlock, (2, 2, 2, 2)),
    "resnet50-32": partial(networks.resnet32, networks.Bottleneck, (3, 4, 6, 3)),
    "mobilenetv2-32": networks.MobileNetV2,
    "wrn-28-10": WideResNet,
    "resnet10-128": networks.resnet10,
    "small-vit": SmallViT,
}
