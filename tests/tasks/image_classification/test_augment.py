"""``Augment`` against slow loops, and its random numbers against a plain SplitMix64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from leantrain.tasks.image_classification.augment import _ANGLE, _AREA, _FLIP, _LEFT, _RATIO, _TOP, Augment, uniforms

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
WORD = (1 << 64) - 1


def pictures(n=12, size=8, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


def normalised(images):
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
    return (images / 255 - mean) / std


def splitmix(state):
    """One step of SplitMix64 as published: (next state, output)."""
    state = (state + 0x9E3779B97F4A7C15) & WORD
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return state, z ^ (z >> 31)


def finalised(z):
    """SplitMix64's finaliser alone: its output for the state that comes out as z."""
    return splitmix((z - 0x9E3779B97F4A7C15) & WORD)[1]


# The random numbers


def test_reference_gives_the_published_numbers():
    """The stream of seed 1234567, as in the public test vectors of SplitMix64."""
    state, outputs = 1234567, []
    for _ in range(3):
        state, output = splitmix(state)
        outputs.append(output)
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (-1, 200), (2**63, 1), (2**70 + 5, -4)])
def test_uniforms_are_splitmix64(seed, epoch):
    indices = [0, 1, 49_999, 2**40]
    ours = uniforms(seed, epoch, torch.tensor(indices), 4)
    key = splitmix((splitmix(seed & WORD)[1] + epoch) & WORD)[1]
    for row, index in enumerate(indices):
        state = finalised((key + index) & WORD)
        for column in range(4):
            state, output = splitmix(state)
            assert float(ours[row, column]) == (output >> 40) / 2**24


def test_uniforms_are_uniform_and_unrelated():
    u = uniforms(0, 0, torch.arange(40_000), 3).double()
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean(0).numpy() == pytest.approx(0.5, abs=5 / math.sqrt(12 * 40_000))
    counts = torch.histc(u[:, 0], 50, 0, 1)
    assert float(((counts - 800) ** 2 / 800).sum()) < 100  # chi-square, 49 degrees of freedom: p < 1e-5 above
    others = [u[:, 1], u[:, 2], u[:, 0].roll(1)]
    others += [uniforms(s, e, torch.arange(40_000), 1)[:, 0].double() for s, e in ((0, 1), (1, 0), (1, 1))]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([u[:, 0], other]))[0, 1])) < 5 / math.sqrt(40_000)


def test_columns_do_not_depend_on_their_number():
    indices = torch.tensor([5, 9])
    assert torch.equal(uniforms(1, 2, indices, 6)[:, :2], uniforms(1, 2, indices, 2))


# Crop and flip


@pytest.mark.parametrize(
    ("stored", "size", "pad", "flip"),
    [(8, 8, 2, True), (8, 8, 2, False), (8, 8, 0, True), (10, 8, 0, True), (9, 8, 1, True)],
)
def test_crop_and_flip_match_one_sample_at_a_time(stored, size, pad, flip):
    images, indices = pictures(200, stored), torch.arange(200) * 7
    augment = Augment(MEAN, STD, size, pad=pad, flip=flip, seed=3)
    ours = augment(images, indices, epoch=5)
    assert (ours.dtype, ours.shape) == (torch.float32, (200, 3, size, size))
    choices = stored + 2 * pad - size + 1
    u = uniforms(3, 5, indices, 3)
    seen = set()
    for i in range(200):
        top, left = int(u[i, _TOP] * choices), int(u[i, _LEFT] * choices)
        mirrored = flip and bool(u[i, _FLIP] < 0.5)
        seen.add((top, left, mirrored))
        window = F.pad(images[i], (pad,) * 4)[:, top : top + size, left : left + size]
        expected = normalised(window.flip(-1) if mirrored else window)
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-5)
    assert len(seen) >= (1 + flip) * choices**2 * 0.9  # 200 draws of at most 50 cases


def test_border_is_black():
    ours = Augment(MEAN, STD, 8, pad=8, seed=0)(pictures(100) | 1, torch.arange(100), 0)
    black = normalised(torch.zeros(3, 1, 1))
    assert bool((ours[:, :, 0, 0] == black[:, 0, 0]).all(1).any())


def test_nothing_switched_on_is_plain():
    images = pictures()
    augment = Augment(MEAN, STD, 8)
    assert torch.equal(augment(images, torch.arange(12), 0), augment.plain(images))


@pytest.mark.parametrize("settings", [{"pad": 2, "flip": True}, {"pad": 1, "rotation": 15.0}, {"resized_crop": True}])
def test_a_sample_is_augmented_alike_in_any_batch(settings):
    images, indices = pictures(), torch.arange(100, 112)
    augment = Augment(MEAN, STD, 8, **settings)
    whole = augment(images, indices, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    torch.testing.assert_close(augment(images[order], indices[order], 4), whole[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(augment(images[3:4], indices[3:4], 4), whole[3:4], rtol=0, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (augment(images, indices, 5), augment(images, indices + 1, 4)):
        assert not torch.allclose(other, whole)
    assert not torch.allclose(Augment(MEAN, STD, 8, seed=1, **settings)(images, indices, 4), whole)


def test_input_stays_as_it_was():
    images = pictures()
    before = images.clone()
    Augment(MEAN, STD, 8, pad=2, flip=True)(images, torch.arange(12), 0)
    Augment(MEAN, STD, 8).plain(images)
    assert torch.equal(images, before)


# Rotation and resized crops, with the random numbers put in by hand


def chosen(n, **columns):
    """(n, 6) uniforms that are 0.5 (no rotation, square aspect, no flip) but for the columns given."""
    u = torch.full((n, 6), 0.5)
    for name, value in columns.items():
        u[:, {"top": _TOP, "left": _LEFT, "flip": _FLIP, "angle": _ANGLE, "area": _AREA, "ratio": _RATIO}[name]] = value
    return u


def test_rotation_by_nothing_is_crop_and_flip():
    images, u = pictures(200), uniforms(0, 0, torch.arange(200), 6)
    u[:, _ANGLE] = 0.5
    augment = Augment(MEAN, STD, 8, pad=2, flip=True, rotation=15)
    torch.testing.assert_close(augment._warp(images, u), augment._crop(images, u).float(), rtol=0, atol=0.01)


@pytest.mark.parametrize(("angle", "turns"), [(1.0, 1), (0.0, -1), (0.5, 0)])
@pytest.mark.parametrize("flip", [0.1, 0.9])
def test_rotation_by_quarter_turns(angle, turns, flip):
    images = pictures()
    ours = Augment(MEAN, STD, 8, flip=True, rotation=90)._warp(images, chosen(12, angle=angle, flip=flip))
    turned = torch.rot90(images, turns, (2, 3)).float()
    torch.testing.assert_close(ours, turned.flip(-1) if flip < 0.5 else turned, rtol=0, atol=0.01)


def test_rotation_stays_within_its_range_and_uses_it():
    """The direction of a bright spot, seen from the centre, gives the angle back."""
    images = torch.zeros(300, 3, 33, 33, dtype=torch.uint8)
    images[:, :, 15:18, 26:29] = 255  # to the right of the centre (16, 16)
    out = Augment((0.0,) * 3, (1.0,) * 3, 33, rotation=15)(images, torch.arange(300), 0)[:, 0]
    axis = torch.arange(33) - 16.0
    x = (out * axis).sum((1, 2)) / out.sum((1, 2))
    y = (out * axis[:, None]).sum((1, 2)) / out.sum((1, 2))
    degrees = torch.rad2deg(torch.atan2(y, x))
    assert degrees.abs().max() < 15.5
    assert degrees.max() > 14
    assert degrees.min() < -14
    assert abs(float(degrees.mean())) < 5 * 15 / math.sqrt(3 * 300)


def test_resized_crop_of_everything_is_resizing():
    images = pictures(size=12)
    ours = Augment(MEAN, STD, 8, resized_crop=True)._warp(images, chosen(12, area=1.0))
    expected = F.interpolate(images.float(), size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("flip", [0.1, 0.9])
def test_resized_crop_at_scale_one_is_the_crop(flip):
    images = pictures(size=16)  # a quarter of the area is 8x8, which S = 8 takes pixel by pixel
    u = chosen(12, area=(0.25 - 0.08) / 0.92, top=0.25, left=0.75, flip=flip)
    ours = Augment(MEAN, STD, 8, flip=True, resized_crop=True)._warp(images, u)
    window = images[:, :, 2:10, 6:14].float()
    torch.testing.assert_close(ours, window.flip(-1) if flip < 0.5 else window, rtol=0, atol=0.05)


@pytest.mark.parametrize(("ratio", "width", "height"), [(1.0, 8, 6), (0.0, 6, 8)])
def test_resized_crop_takes_the_aspect(ratio, width, height):
    """Ratio 4/3 at 48 of 256 pixels of area: 8 wide, 6 high; the ramp along each axis shows the box."""
    ramp = torch.arange(16, dtype=torch.uint8).mul(10).expand(1, 1, 16, 16)
    u = chosen(1, area=(48 / 256 - 0.08) / 0.92, ratio=ratio, top=0.0, left=0.0)
    augment = Augment((0.5,), (0.5,), 8, resized_crop=True)
    across = augment._warp(ramp, u)[0, 0, 4].diff()
    down = augment._warp(ramp.transpose(2, 3), u)[0, 0, :, 4].diff()
    assert across[2:-2].numpy() == pytest.approx(10 * width / 8, abs=0.01)
    assert down[2:-2].numpy() == pytest.approx(10 * height / 8, abs=0.01)


def test_resized_crops_stay_inside_the_image():
    bright = torch.full((500, 3, 16, 16), 255, dtype=torch.uint8)
    out = Augment((0.0,) * 3, (1.0,) * 3, 8, resized_crop=True)(bright, torch.arange(500), 0)
    assert out.min() > 0.49  # bilinear mixes in black only where a sampling point lies on the outermost half pixel


# Evaluation, and errors


def test_plain_normalises_and_crops_the_centre():
    images = pictures(size=11)
    ours = Augment(MEAN, STD, 8, pad=2, flip=True, rotation=3).plain(images)
    torch.testing.assert_close(ours, normalised(images[:, :, 1:9, 1:9]), rtol=0, atol=1e-5)


def test_layout_of_the_input_does_not_matter():
    images = pictures()
    augment = Augment(MEAN, STD, 8, pad=2, flip=True)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(last, torch.arange(12), 0), augment(images, torch.arange(12), 0))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"std": (0.2, 0.0, 0.2)}, "has to be positive"),
        ({"std": (0.2,)}, "mean has 3 and std 1 values"),
        ({"size": 0}, "size=0 is not positive"),
        ({"pad": -1}, "pad=-1 is negative"),
        ({"rotation": -5.0}, "rotation=-5.0 is outside [0, 180]"),
        ({"pad": 4, "resized_crop": True}, "pad=4 has no effect with resized_crop=True"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Augment(**{"mean": MEAN, "std": STD, "size": 8, **settings})
    assert text in str(caught.value)


def test_batches_are_checked():
    augment, images, indices = Augment(MEAN, STD, 8), pictures(), torch.arange(12)
    for wrong in (images.float(), images[0], images[:, :1]):
        with pytest.raises(ValueError, match=r"expected uint8 \(B, 3, H, W\)"):
            augment(wrong, indices, 0)
        with pytest.raises(ValueError, match=r"expected uint8 \(B, 3, H, W\)"):
            augment.plain(wrong)
    with pytest.raises(ValueError, match="11 indices for 12 images"):
        augment(images, indices[1:], 0)
    small = pictures(size=6)
    with pytest.raises(ValueError, match="6x6 are smaller than size=8"):
        augment.plain(small)
    for settings in ({}, {"rotation": 5.0}):
        with pytest.raises(ValueError, match="6x6 with pad=0 are smaller than size=8"):
            Augment(MEAN, STD, 8, **settings)(small, indices, 0)


def test_numpy_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    Augment(MEAN, STD, 8, pad=2, flip=True, rotation=5)(pictures(), torch.arange(12), 0)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
