"""What real data look like, as changes of a training set: wrong labels, near-copies, repeats, rare classes.

A condition is text: ``NAME=VALUE``, several joined by ``+`` and applied from left to right. The test set stays as it
is. N: samples before a change, C: classes.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from leantrain.data import human_labels
from leantrain.data.datasets import ImageData
from leantrain.data.edited import EditedDataset, edited
from leantrain.data.images import ArrayDataset
from leantrain.rng import choose, generator
from leantrain.utils import validation

CLEAN = "clean"
SHIFT, GAIN = 0.06, 0.15  # a near-copy is shifted by up to that share of its side, its brightness changed by up to that
CROP, QUALITY = 0.8, (40, 95)  # or cut to at least that share of its side, and encoded as JPEG of such a quality


class _Change(NamedTuple):
    """Samples of the new training set: which old ones, with which labels, and which of them are near-copies."""

    rows: Tensor  # (M,) int64, positions in the old set
    targets: Tensor  # (M,) int64
    near: Tensor  # (M,) bool
    encoded: bool = False  # whether near-copies are cut and encoded again, instead of changed in brightness


def under(data: ImageData, condition: str, seed: int = 0) -> ImageData:
    """``data`` with its training set under ``condition``; as it is if it is that already.

    Args:
        data: a data set as it was read.
        condition: ``clean``, or any of these, joined by ``+``:
            ``noise=SHARE``: so many labels are replaced by another class, drawn uniformly (symmetric noise).
            ``noise=human-KIND``, ``noise=human-KIND:FILE``: labels that people gave, KIND one of worst, aggregate,
            random1, random2, random3; see ``leantrain.data.human_labels``.
            ``redundant=K``: N / K samples, each K times, as it is and as near-copies: shifted and of other brightness.
            ``repeated=SHARE``: exact copies; so many of the distinct images make up half of the set. N stays.
            ``crawled=SHARE``: exact copies as the web has them; so much of a class are distinct images, and few of
            these make up most of the copies (Zipf's law). N stays.
            ``near-copies=SHARE``: the same, with near-copies instead: shifted, cut, encoded as JPEG again.
            ``long-tail=RATIO``: class sizes fall exponentially, the largest RATIO times the smallest.
        seed: of what is drawn. Trainings with different seeds are meant to share the same changed set.

    Raises:
        ValueError: an unknown name, a value out of range, or a class that would be left without samples.
        FileNotFoundError: the file of human labels is not there.
    """
    condition = canonical(condition)
    if condition == data.condition:
        return data
    if data.condition != CLEAN:
        raise ValueError(f"The data set is under {data.condition!r} already and cannot be put under {condition!r}.")
    parts = [(name, value, f"{name}={_in_words(value)}") for name, value in _parse(condition)]
    told = "+".join(text.partition(":")[0] for *_, text in parts)  # wherever a file lies, its labels are the same
    digest = hashlib.blake2b(f"{data.fingerprint} {told}".encode(), digest_size=16)
    made, origin = data, torch.arange(len(data.targets))
    for number, (name, value, text) in enumerate(parts):
        rng = generator(seed, 0, f"condition {name}", number)
        if isinstance(value, str):
            change = _relabelled(human_labels.read(data, value)[origin])
        else:
            change = _CHANGES[name].make(made, value, rng)
        _check_classes(made, change.targets, text)
        made, origin = _changed(made, change, rng), origin[change.rows]
        for part in (change.rows, change.targets):
            digest.update(part.numpy().astype("<i8").tobytes())
    return dataclasses.replace(made, condition=condition, fingerprint=digest.hexdigest())


def canonical(condition: str) -> str:
    """The condition as results name it, whatever way its numbers were written.

    Raises:
        ValueError: an unknown name, one given twice, or a value out of range.
    """
    return "+".join(f"{name}={_in_words(value)}" for name, value in _parse(condition)) or CLEAN


def _in_words(value: float | str) -> str:
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def unbalanced(condition: str) -> bool:
    """Whether the classes of the training set have different sizes under ``condition``."""
    return "long-tail" in condition


def noise(data: ImageData, share: float, rng: torch.Generator) -> _Change:
    """round(share * N) labels, drawn without replacement, become another class, drawn uniformly."""
    size, classes = len(data.targets), len(data.classes)
    wrong = choose(size, round(share * size), rng)
    targets = data.targets.clone()
    targets[wrong] = (targets[wrong] + torch.randint(1, classes, (len(wrong),), generator=rng)) % classes
    return _relabelled(targets)


def _relabelled(targets: Tensor) -> _Change:
    return _Change(torch.arange(len(targets)), targets, torch.zeros(len(targets), dtype=torch.bool))


def redundant(data: ImageData, copies: float, rng: torch.Generator) -> _Change:
    """Of each class ceil(n / copies) of its n samples, and near-copies of them until it has n again."""
    rows, near = [], []
    for members in _members(data):
        originals = members[choose(len(members), math.ceil(len(members) / copies), rng)]
        places = torch.arange(len(members))
        rows.append(originals[places % len(originals)])
        near.append(places >= len(originals))
    kept = torch.cat(rows)
    return _Change(kept, data.targets[kept], torch.cat(near))


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


def crawled(data: ImageData, share: float, rng: torch.Generator) -> _Change:
    """round(share * n) images of a class of n samples are distinct, once each; the other samples are copies of these.

    By Zipf's law: of the copies the k-th image has a part in proportion to 1 / k.
    """
    rows, _ = _crawl(data, share, rng)
    return _Change(rows, data.targets[rows], torch.zeros(len(rows), dtype=torch.bool))


def near_copies(data: ImageData, share: float, rng: torch.Generator) -> _Change:
    """``crawled``, with copies that are shifted, cut and encoded again, each in another way."""
    rows, copies = _crawl(data, share, rng)
    return _Change(rows, data.targets[rows], copies, encoded=True)


def _crawl(data: ImageData, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions of the samples, and which of them are copies: (N,) each."""
    rows, copies = [], []
    for members in filter(len, _members(data)):
        once = max(1, round(share * len(members)))
        drawn = members[torch.randperm(len(members), generator=rng)[:once]]
        law = (1 / torch.arange(1, once + 1, dtype=torch.float64)).cumsum(0)
        ends = (law / law[-1] * (len(members) - once)).round().long()
        rows += [drawn, drawn.repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))]
        copies.append(torch.arange(len(members)) >= once)
    return torch.cat(rows), torch.cat(copies)


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


Value = float | str


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
    "crawled": _Kind(crawled, _share, "crawled=0.3"),
    "near-copies": _Kind(near_copies, _share, "near-copies=0.3"),
}


def _parse(condition: str) -> list[tuple[str, Value]]:
    """(name, value) of each change, a text for human labels; nothing for clean data."""
    parts: list[tuple[str, Value]] = []
    for text in condition.split("+"):
        name, equals, value = text.strip().partition("=")
        if name == CLEAN and not equals and condition.strip() == CLEAN:
            continue
        validation.one_of("condition", name, [CLEAN, *_CHANGES])
        if name == CLEAN:
            raise ValueError(f"condition {condition!r}: clean stands alone and takes no value.")
        if name in dict(parts):
            raise ValueError(f"condition {condition!r} names {name} twice.")
        parts.append((name, _value(name, value.strip(), text.strip())))
    return parts


def _value(name: str, value: str, text: str) -> Value:
    if name == "noise" and value.startswith("human"):
        return human_labels.check(value)
    kind = _CHANGES[name]
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"condition {text!r} must read {name}=NUMBER, such as {kind.example}.") from None
    return kind.value(name, number)


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
    train, edits = data.train, _edits(data, change, rng)
    if isinstance(train, ArrayDataset):
        images = train.images[change.rows]
        for i in change.near.nonzero().squeeze(1).tolist():
            images[i] = edited(images[i], edits[i])
        changed = ArrayDataset(images, change.targets)
    else:
        base = train.rows(change.rows)
        earlier = base.edits if isinstance(base, EditedDataset) else edits.new_empty(len(edits), 0, edits.shape[1])
        changed = EditedDataset(
            base.sources, base.names, change.targets, base.size, torch.cat([earlier, edits[:, None]], dim=1)
        )
    return dataclasses.replace(data, train=changed, targets=change.targets)


def _edits(data: ImageData, change: _Change, rng: torch.Generator) -> Tensor:
    """(M, 5) what ``edited`` does to each image: to near-copies, and nothing to others."""
    side = data.train.images.shape[-1] if isinstance(data.train, ArrayDataset) else data.train.size
    most, count = max(1, round(SHIFT * side)), len(change.rows)
    shifts = torch.randint(-most, most + 1, (count, 2), generator=rng)
    random = torch.rand(count, generator=rng, dtype=torch.float32)
    as_is = torch.tensor([0, 0, 1, side, 0], dtype=torch.float32)
    made = as_is.repeat(count, 1)
    made[:, :2] = shifts
    if change.encoded:
        made[:, 3] = (side * (CROP + (1 - CROP) * random)).round()
        made[:, 4] = torch.randint(QUALITY[0], QUALITY[1] + 1, (count,), generator=rng)
    else:
        made[:, 2] = 1 + GAIN * (2 * random - 1)
    return made.where(change.near[:, None], as_is)
