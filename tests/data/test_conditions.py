"""Conditions of a training set, against counts and formulas worked out plainly."""

import io

import pytest
import torch
from PIL import Image

from leantrain import data
from leantrain.data import conditions
from leantrain.data.conditions import canonical, jitter, under
from leantrain.data.datasets import finish
from leantrain.data.images import ArrayDataset, LazyDataset

CLASSES = ("cat", "dog", "owl", "fox")


def made(sizes=(40, 40, 40, 40), lazy=False):
    """Every image is one of its own: pixel values name it."""
    targets = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    images = torch.arange(len(targets), dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 16, 16)
    images[:, :, 3, 5] = 250
    arrays = ArrayDataset(images, targets)
    train = arrays
    if lazy:
        train = LazyDataset([png(image) for image in images], [str(i) for i in range(len(images))], targets, 16)
    return finish("made", train, ArrayDataset(images[:8], targets[:8]), CLASSES, 16, [images.numpy().tobytes()])


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def names(changed):
    """Which original each image is: by its corner, where no jitter changes brightness."""
    return [int(image[0, 0, 0]) for image, _ in changed.train]


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_noise_replaces_so_many_labels_and_only_labels(share):
    before = made((50, 50, 50, 50))
    after = under(before, f"noise={share}")
    assert int((after.targets != before.targets).sum()) == share * 200  # always another class
    assert after.train.images.equal(before.train.images)
    assert after.train.targets.equal(after.targets)


def test_noise_falls_on_every_class_and_into_every_other():
    before = made((2000, 2000, 2000, 2000))
    after = under(before, "noise=0.4")
    moved = torch.zeros(4, 4)
    for old, new in zip(before.targets.tolist(), after.targets.tolist(), strict=True):
        moved[old, new] += 1
    off = moved[~torch.eye(4, dtype=torch.bool)]
    expected = 8000 * 0.4 / 12
    assert ((off - expected).abs() < 5 * expected**0.5).all()  # five standard deviations


def test_redundant_keeps_a_part_and_near_copies_of_it():
    before = made()
    after = under(before, "redundant=4")
    assert torch.bincount(after.targets).tolist() == [40] * 4
    originals = before.train.images
    as_is = [i for i, image in enumerate(after.train.images) if (originals == image).flatten(1).all(1).any()]
    assert 40 <= len(as_is) < 60  # 10 a class; a near-copy may be hardly moved by chance
    for image, label in after.train:  # every one is a jittered original of its class, by brute force
        close = False
        for original in originals[before.targets == label]:
            ratio = float(image.float().median() / original.float().median().clamp(min=1))
            close = close or 0.8 < ratio < 1.2 or float((image.float() - original.float()).median().abs()) <= 1
        assert close


def test_jitter_moves_and_brightens():
    image = torch.zeros(1, 5, 5, dtype=torch.uint8)
    image[0, 2, 2] = 100
    moved = jitter(image, [1, -2], 1.5)
    assert moved[0, 3, 0] == 150
    assert int(moved.sum()) == 150
    assert jitter(torch.full((1, 2, 2), 250, dtype=torch.uint8), [0, 0], 1.2).eq(255).all()
    edge = torch.zeros(1, 4, 4, dtype=torch.uint8)
    edge[0, 0] = 9
    assert jitter(edge, [2, 0], 1.0)[0, :3].eq(9).all()  # the edge goes on


def test_repeated_lets_a_tenth_make_up_half():
    after = under(made((60, 60, 60, 60)), "repeated=0.1")
    found = torch.bincount(torch.tensor(names(after)))
    times = sorted(found[found > 0].tolist(), reverse=True)
    # 30 once and 30 / 9 = 3 images for the other 30 in each class
    assert times == [10] * 12 + [1] * 120
    assert len([t for t in times if t > 1]) / len(times) == pytest.approx(0.1, abs=0.02)
    assert sum(t for t in times if t > 1) == 120
    quarter = torch.bincount(torch.tensor(names(under(made((60, 60, 60, 60)), "repeated=0.25"))))
    assert sorted(quarter[quarter > 0].tolist(), reverse=True) == [3] * 40 + [1] * 120  # 10 of 40 images a class


@pytest.mark.parametrize("ratio", [10, 100])
def test_a_long_tail_falls_exponentially(ratio):
    sizes = (200, 210, 220, 200)
    before = made(sizes)
    after = under(before, f"long-tail={ratio}")
    expected = [round(200 * (1 / ratio) ** (c / 3)) for c in range(4)]
    assert sorted(torch.bincount(after.targets).tolist(), reverse=True) == expected
    orders = {tuple(torch.bincount(under(before, f"long-tail={ratio}", seed).targets).tolist()) for seed in range(8)}
    assert len(orders) > 1  # which class is rare is drawn


def test_a_combination_is_its_parts_in_turn():
    after = under(made((100, 100, 100, 100)), "long-tail=10+noise=0.2")
    plain = under(made((100, 100, 100, 100)), "long-tail=10")
    assert after.train.images.equal(plain.train.images)
    assert int((after.targets != plain.targets).sum()) == round(0.2 * len(plain.targets))


ALL = ["noise=0.2", "redundant=4", "repeated=0.1", "long-tail=10", "long-tail=5+noise=0.4", "noise=0.4+long-tail=5"]


@pytest.mark.parametrize("condition", ALL)
def test_a_condition_is_drawn_by_its_seed_and_leaves_the_test_set(condition):
    before = made()
    one, again, other = under(before, condition), under(before, condition), under(before, condition, seed=1)
    assert one.fingerprint == again.fingerprint
    assert len({one.fingerprint, other.fingerprint, before.fingerprint}) == 3
    assert one.train.images.equal(again.train.images)
    assert one.targets.equal(again.targets)
    assert not (one.targets.equal(other.targets) and one.train.images.equal(other.train.images))
    assert one.test is before.test
    assert one.condition == condition
    assert before.condition == "clean"


@pytest.mark.parametrize("condition", [*ALL, "redundant=2+long-tail=4"])
def test_images_read_when_asked_for_change_alike(condition):
    arrays, lazy = under(made(), condition), under(made(lazy=True), condition)
    assert len(lazy.train) == len(arrays.train)
    for (a, label), (b, other) in zip(arrays.train, lazy.train, strict=True):
        assert a.equal(b)
        assert label == other


def test_clean_is_what_was_given():
    before = made()
    assert under(before, "clean") is before
    noisy = under(before, "noise=0.2")
    assert under(noisy, "noise=0.20") is noisy
    with pytest.raises(ValueError, match=r"under 'noise=0.2' already and cannot be put under 'long-tail=10'"):
        under(noisy, "long-tail=10")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "nois=0.2",
            r"Unknown condition 'nois'. Did you mean 'noise'\? Known: clean, noise, redundant, repeated, long-",
        ),
        ("", r"Unknown condition ''.* Known: clean, noise"),
        ("noise", r"must read noise=NUMBER, such as noise=0.2"),
        ("noise=much", r"must read noise=NUMBER"),
        ("noise=40", r"noise=40.0 is outside \(0, 1\).*For 40 % pass 0.4"),
        ("noise=0", r"noise=0.0 is outside \(0, 1\)"),
        ("noise=nan", r"noise=nan is outside \(0, 1\)"),
        ("redundant=1", r"redundant=1 must be a whole number of at least 2"),
        ("redundant=2.5", r"redundant=2.5 must be a whole number"),
        ("redundant=inf", r"redundant=inf must be a whole number"),
        ("repeated=0.5", r"repeated=0.5 is outside \(0, 0.5\)"),
        ("long-tail=1", r"long-tail=1 must be above 1"),
        ("long-tail=inf", r"long-tail=inf must be above 1"),
        ("clean+noise=0.2", r"clean stands alone"),
        ("noise=0.2+noise=0.3", r"names noise twice"),
    ],
)
def test_bad_conditions_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        canonical(given)


def test_a_class_left_empty_is_named():
    with pytest.raises(
        ValueError, match=r"long-tail=100 leaves 1 of 4 .* without samples \((cat|dog|owl|fox)\).* had 40"
    ):
        under(made(), "long-tail=100")
    with pytest.raises(ValueError, match=r"noise=0.9 leaves \d of 4 classes without samples \("):
        under(made((1, 1, 1, 1)), "noise=0.9", seed=1)


def test_load_applies_the_condition_after_the_limit():
    plain = data.load("digits", limit=200)
    noisy = data.load("digits", limit=200, condition="noise=0.5", condition_seed=3)
    assert noisy.fingerprint == under(plain, "noise=0.5", 3).fingerprint
    assert noisy.test_targets.equal(plain.test_targets)
    few = data.load("digits", limit=200, test_limit=50)
    assert torch.bincount(few.test_targets).tolist() == [5] * 10
    assert len(few.test) == 50
    assert few.fingerprint == plain.fingerprint
    with pytest.raises(ValueError, match="Unknown condition 'x'"):
        data.load("digits", condition="x")


def test_only_long_tails_are_unbalanced():
    assert [conditions.unbalanced(c) for c in ALL] == [False, False, False, True, True, True]
