"""A preset shrunk to the machine, and what that changed, in words."""

from typing import Any

from leantrain.compare.presets import Preset
from leantrain.tasks.image_classification import models
from leantrain.utils import validation

Changes = dict[str, Any]

HERE = "here"
_IN_EPOCHS = (
    "select_every",
    "start_epoch",
    "switch_epoch",
    "probe_epochs",
)  # settings of methods; where floats, shares of the training


def scaled(preset: Preset, scale: str, given: Changes) -> tuple[Changes, str]:
    """``given`` with the preset's base shrunk below it, and a sentence on what differs from the base.

    Args:
        preset: what is shrunk.
        scale: ``here``, for the preset's own settings for two CPU cores; or a share, by which the number of images, of
            epochs (at least 2) and of channels (at least 4) are each multiplied. Schedules are shares of the training
            and shrink with it, as do methods' settings that count epochs.
        given: the user's own settings, which win.

    Raises:
        ValueError: neither ``here`` nor a share.
    """
    if scale == HERE:
        changes = dict(preset.here)
    else:
        try:
            share = validation.fraction("scale", float(scale))
        except ValueError as error:
            raise ValueError(f"--scale {scale} must be {HERE!r} or a share in (0, 1], such as 0.1.") from error
        changes = _by(share, preset)
    settings = {
        method: changes.get("settings", {}).get(method, {}) | given.get("settings", {}).get(method, {})
        for method in {**changes.get("settings", {}), **given.get("settings", {})}
    }
    made = changes | given | {"settings": settings}
    plain = [name for name in changes if name not in ("settings", "methods")]
    told = [f"{name} {_shown(_was(preset, name))} to {_shown(made[name])}" for name in plain]
    if "methods" in changes:
        left_out = [name for name in preset.base["methods"] if name not in changes["methods"]]
        told.append(f"without {', '.join(left_out)}")
    for method, own in changes.get("settings", {}).items():
        before = preset.base.get("settings", {}).get(method, {})
        told += [f"{method}.{name} {before.get(name, 'as by default')} to {settings[method][name]}" for name in own]
    sentence = f"Scaled down ({scale}): {'; '.join(told)}." if told else f"Scale {scale}: nothing changed."
    return made, sentence


def _by(share: float, preset: Preset) -> Changes:
    base = preset.base
    changes: Changes = {"epochs": max(2, round(share * base["epochs"]))}
    if images := base.get("limit") or preset.samples:
        changes["limit"] = round(share * images)
    if (width := base.get("width") or models.default_width(base["model"])) is not None:
        changes["width"] = max(4, round(share * width))
    settings = {}
    for method, own in base.get("settings", {}).items():
        counted = {name: own[name] for name in _IN_EPOCHS if isinstance(own.get(name), int)}
        if counted:
            settings[method] = {name: max(1, round(share * value)) for name, value in counted.items()}
    return changes | ({"settings": settings} if settings else {})


def _was(preset: Preset, name: str) -> Any:
    if name == "limit":
        return preset.base.get("limit") or preset.samples
    return preset.base.get(name, "as by default")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
