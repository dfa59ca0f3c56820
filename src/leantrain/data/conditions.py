"""What real data look like, as seeded changes of a training set: wrong labels, near-copies, repeats, rare classes.

A condition is text: ``NAME=VALUE``, several joined by ``+`` and applied from left to right. The test set stays as it
is. N: samples before a change, C: classes.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from leantrain.data.datasets import ImageData
from leantrain.data.images import ArrayDataset, LazyDataset
from leantrain.rng import choose, generator
from leantrain.utils import validation

CLEAN = "clean"
SHIFT, GAIN = 0.06, 0.15  # a near-copy is shifted by up to that share of its side, its brightness changed by up to that


class _Change(NamedTuple):
    """Samples of the new training set: which old ones, with which labels, and which of them are jittered."""

    rows: Tensor  # (M,) int64, positions in the old set
    targets: Tensor  # (M,) int64
    jittered: Tensor  # (M,) bool


def under(data: ImageData, condition: str, seed: int = 0) -> ImageData:
    """``data`` with its training set under ``condition``; as it is if it is that already.

    Args:
        data: a data set as it was read.
        condition: ``clean``, or any of these, joined by ``+``:
            ``noise=SHARE``: so many labels are replaced by another class, drawn uniformly (symmetric noise).
            ``redundant=K``: N / K samples, each K times, as it is and as near-copies: shifted and of other brightness.
            ``repeated=SHARE``: exact copies; so many of the distinct images make up half of the set. N stays.
            ``long-tail=RATIO``: class sizes fall exponentially, the largest RATIO times the smallest.
        seed: of what is drawn. Trainings with different seeds are meant to share the same changed set.

    Raises:
        ValueError: an unknown name, a value out of range, or a class that would be left without samples.
    """
    condition = canonical(condition)
    if condition == data.condition:
        return data
    if data.condition != CLEAN:
        raise ValueError(f"The data set is under {data.condition!r} already and cannot be put under {condition!r}.")
    digest = hashlib.blake2b(f"{data.fingerprint} {condition}".encode(), digest_size=16)
    made = data
    for number, (name, value) in enumerate(_parse(condition)):
        rng = generator(seed, 0, f"condition {name}", number)
        change = _CHANGES[name].make(made, value, rng)
        _check_classes(made, change.targets, f"{name}={value:g}")
        made = _changed(made, change, rng)
        for part in (change.rows, change.targets):
            digest.update(part.numpy().astype("<i8").tobytes())
    return dataclasses.replace(made, condition=condition, fingerprint=digest.hexdigest())


def canonical(condition: str) -> str:
    """The condition as results name it, whatever way its numbers were written.

    Raises:
        ValueError: an unknown name, one given twice, or a value out of range.
    """
    return "+".join(f"{name}={int(v) if v.is_integer() else v}" for name, v in _parse(condition)) or CLEAN


def unbalanced(condition: str) -> bool:
    """Whether the classes of the training set have different sizes under ``condition``."""
    return "long-tail" in condition


def noise(data: ImageData, share: float, rng: torch.Generator) -> _Change:
    """round(share * N) labels, drawn without replacement, become another class, drawn uniformly."""
    size, classes = len(data.targets), len(data.classes)
    wrong = choose(size, round(share * size), rng)
    targets = data.targets.clone()
    targets[wrong] = (targets[wrong] + torch.randint(1, classes, (len(wrong),), generator=rng)) % classes
    return _Change(torch.arange(size), targets, torch.zeros(size, dtype=torch.bool))


def redundant(data: ImageData, copies: float, rng: torch.Generator) -> _Change:
    """Of each class ceil(n / copies) of its n samples, and near-copies of them until it has n again."""
    rows, jittered = [], []
    for members in _members(data):
        originals = members[choose(len(members), math.ceil(len(members) / copies), rng)]
        places = torch.arange(len(members))
        rows.append(originals[places % len(originals)])
        jittered.append(places >= len(originals))
    kept = torch.cat(rows)
    return _Change(kept, data.targets[kept], torch.cat(jittered))


def repeated(data: ImageData, share: float, rng: torch.Generator) -> _Change:
    """``share`` of the distinct images of a class fill half of it in turn, its other images the other half, once each.

    So that class sizes stay, n / 2 / (1 - share) images of a class of n are distinct; 0.1 keeps 56 % of the images
    and repeats a tenth of those nine times.
    """
    rows = []
    for members in _members(data):
        once = len(members) - len(members) // 2
        heavy = max(1, round(share / (1 - share) * once))
        drawn = members[torch.randperm(len(members), generator=rng)]
        rows += [drawn[:once], drawn[once : once + heavy][torch.arange(len(members) // 2) % heavy]]
    kept = torch.cat(rows)
    return _Change(kept, data.targets[kept], torch.zeros(len(kept), dtype=torch.bool))


def long_tail(data: ImageData, ratio: float, rng: torch.Generator) -> _Change:
    """Class sizes n * ratio^(-i / (C - 1)) for i = 0 .. C - 1, rounded, over the classes in a random order.

    n is the size of the smallest class, so that each can be cut to its size. Source: Cui et al., Class-Balanced Loss
    Based on Effective Number of Samples, CVPR 2019, arXiv 1901.05555, which cuts the classes in their given order.
    """
    members = [members for members in _members(data) if len(members)]
    order, least = torch.randperm(len(members), generator=rng).tolist(), min(map(len, members))
    kept = []
    for place, number in enumerate(order):
        size = round(least * ratio ** (-place / max(1, len(order) - 1)))
        kept.append(members[number][choose(len(members[number]), size, rng)])
    rows = torch.cat(kept).sort().values
    return _Change(rows, data.targets[rows], torch.zeros(len(rows), dtype=torch.bool))


class _Kind(NamedTuple):
    make: Callable[[ImageData, float, torch.Generator], _Change]
    value: Callable[[str, float], float]  # gives it back, or says what is wrong with it
    example: str


def _share(name: str, value: float) -> float:
    return validation.fraction(name, value, one=False)


def _copies(name: str, value: float) -> float:
    if not 2 <= value < math.inf or not value.is_integer():
        raise ValueError(f"{name}={value:g} must be a whole number of at least 2: how often each image occurs.")
    return value


def _part(name: str, value: float) -> float:
    if not 0 < value < 0.5:
        raise ValueError(f"{name}={value:g} is outside (0, 0.5): the share of the images that make up half of the set.")
    return value


def _ratio(name: str, value: float) -> float:
    if not 1 < value < math.inf:
        raise ValueError(f"{name}={value:g} must be above 1: the largest class over the smallest.")
    return value


_CHANGES = {
    "noise": _Kind(noise, _share, "noise=0.2"),
    "redundant": _Kind(redundant, _copies, "redundant=4"),
    "repeated": _Kind(repeated, _part, "repeated=0.1"),
    "long-tail": _Kind(long_tail, _ratio, "long-tail=10"),
}


def _parse(condition: str) -> list[tuple[str, float]]:
    """(name, value) of each change; nothing for clean data."""
    parts: list[tuple[str, float]] = []
    for text in condition.split("+"):
        name, equals, value = text.strip().partition("=")
        if name == CLEAN and not equals and condition.strip() == CLEAN:
            continue
        validation.one_of("condition", name, [CLEAN, *_CHANGES])
        if name == CLEAN:
            raise ValueError(f"condition {condition!r}: clean stands alone and takes no value.")
        if name in dict(parts):
            raise ValueError(f"condition {condition!r} names {name} twice.")
        kind = _CHANGES[name]
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"condition {text.strip()!r} must read {name}=NUMBER, such as {kind.example}.") from None
        parts.append((name, kind.value(name, number)))
    return parts


class JitteredDataset(LazyDataset):
    """Images read when asked for, some as near-copies: ``shifts`` (N, 2) pixels and ``gains`` (N,) of brightness."""

    def __init__(self, base: LazyDataset, targets: Tensor, shifts: Tensor, gains: Tensor) -> None:
        super().__init__(base.sources, base.names, targets, base.size)
        self.shifts, self.gains = shifts, gains

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, target = super().__getitem__(index)
        return jitter(image, self.shifts[index].tolist(), float(self.gains[index])), target


def jitter(image: Tensor, shift: list[int], gain: float) -> Tensor:
    """A (C, H, W) uint8 image moved ``shift`` pixels down and right, its edge continued, ``gain`` times as bright."""
    (_, height, width), (down, right) = image.shape, shift
    moved = image[:, (torch.arange(height) - down).clamp(0, height - 1)]
    moved = moved[:, :, (torch.arange(width) - right).clamp(0, width - 1)]
    return (moved.float() * gain).round().clamp(0, 255).byte() if gain != 1 else moved


def _members(data: ImageData) -> list[Tensor]:
    """Positions of the samples of each class, C of them."""
    return [(data.targets == label).nonzero().squeeze(1) for label in range(len(data.classes))]


def _check_classes(data: ImageData, targets: Tensor, change: str) -> None:
    """A class that had samples must keep some."""
    classes = len(data.classes)
    had, has = torch.bincount(data.targets, minlength=classes), torch.bincount(targets, minlength=classes)
    lost = ((had > 0) & (has == 0)).nonzero().squeeze(1).tolist()
    if lost:
        names = ", ".join(data.classes[label] for label in lost[:5])
        raise ValueError(
            f"condition {change} leaves {len(lost)} of {classes} classes without samples ({names}); the smallest class "
            f"had {int(had[had > 0].min())}. Use more images or a milder condition."
        )


def _changed(data: ImageData, change: _Change, rng: torch.Generator) -> ImageData:
    side = data.train.images.shape[-1] if isinstance(data.train, ArrayDataset) else data.train.size
    most = max(1, round(SHIFT * side))
    count = len(change.rows)
    shifts = torch.randint(-most, most + 1, (count, 2), generator=rng) * change.jittered[:, None]
    gains = 1 + GAIN * (2 * torch.rand(count, generator=rng, dtype=torch.float32) - 1) * change.jittered
    train: Any
    if isinstance(data.train, ArrayDataset):
        images = data.train.images[change.rows]
        for i in change.jittered.nonzero().squeeze(1).tolist():
            images[i] = jitter(images[i], shifts[i].tolist(), float(gains[i]))
        train = ArrayDataset(images, change.targets)
    else:
        if isinstance(data.train, JitteredDataset):  # near-copies of an earlier change stay what they are
            fresh = ~change.jittered
            shifts[fresh], gains[fresh] = data.train.shifts[change.rows][fresh], data.train.gains[change.rows][fresh]
        train = JitteredDataset(data.train.rows(change.rows), change.targets, shifts, gains)
    return dataclasses.replace(data, train=train, targets=change.targets)
