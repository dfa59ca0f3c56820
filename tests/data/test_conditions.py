"""Conditions of a training set, against counts and formulas worked out plainly."""

import dataclasses
import io
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from leantrain import data
from leantrain.data import conditions, label_checks
from leantrain.data.conditions import canonical, under
from leantrain.data.datasets import finish
from leantrain.data.edited import edited, jitter
from leantrain.data.images import ArrayDataset, LazyDataset

FOLDER = Path(os.environ.get("LEANTRAIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
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


def zipf(distinct, size):
    """How often each of ``distinct`` images stands in a class of ``size``, the most frequent first."""
    parts = [1 / rank for rank in range(1, distinct + 1)]
    ends = [round(sum(parts[: k + 1]) / sum(parts) * (size - distinct)) for k in range(distinct)]
    return sorted((1 + end - before for end, before in zip(ends, [0, *ends[:-1]], strict=True)), reverse=True)


@pytest.mark.parametrize(("share", "distinct"), [(0.3, 18), (0.5, 30), (0.9, 54), (0.001, 1), (0.999, 60)])
def test_crawled_images_are_copied_by_zipfs_law(share, distinct):
    after = under(made((60, 60, 60, 60)), f"crawled={share}")
    assert torch.bincount(after.targets).tolist() == [60] * 4
    times = Counter(names(after))
    for label in range(4):
        of_class = sorted((count for name, count in times.items() if name // 60 == label), reverse=True)
        assert of_class == zipf(distinct, 60)
    if share == 0.3:
        assert zipf(18, 60)[:4] == [13, 7, 5, 4]  # 42 copies over 1 + 1/2 + ... + 1/18 = 3.495: 12.0, 6.0, 4.0 and 3.0


def test_a_near_copy_is_another_picture_of_the_same():
    before = natural(120)
    after = under(before, "near-copies=0.3")
    originals, images = before.train.images, after.train.images
    as_is = (images[:, None] == originals).flatten(2).all(2)
    assert int(as_is.sum()) == 36
    assert as_is.any(0).sum() == 36  # one of each distinct image
    assert len({image.numpy().tobytes() for image in images}) == 120  # no two near-copies are the same
    nearest = torch.cdist(images.flatten(1).float(), originals.flatten(1).float()).argmin(1)
    assert before.targets[nearest].equal(after.targets)
    assert as_is.any(0)[nearest].all()
    for label in range(2):
        times = torch.bincount(nearest[after.targets == label])
        assert sorted(times[times > 0].tolist(), reverse=True) == zipf(18, 60)


def test_near_copies_are_cut_and_encoded_and_as_bright():
    edits = under(made(lazy=True), "near-copies=0.3").train.edits[:, 0]
    as_is = (edits == torch.tensor([0.0, 0, 1, 16, 0])).all(1)
    assert int(as_is.sum()) == 48
    _, _, gain, side, quality = edits[~as_is].T
    assert gain.eq(1).all()
    assert {*side.tolist()} == {13, 14, 15, 16}
    assert 40 <= quality.min() < 50 < 85 < quality.max() <= 95


def natural(count):
    """Smooth images of two classes, as JPEG likes them."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 255
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 255).byte()
    targets = torch.arange(count) % 2
    train = ArrayDataset(images, targets)
    return finish("natural", train, train, CLASSES[:2], 32, [images.numpy().tobytes()])


def test_an_edit_is_a_shift_then_a_cut_then_an_encoding():
    image = natural(1).train.images[0]
    shifted = jitter(image, [1, -2], 1.0)
    middle = Image.fromarray(shifted[:, 3:29, 3:29].permute(1, 2, 0).numpy()).resize(
        (32, 32), Image.Resampling.BILINEAR
    )
    resized = torch.tensor(bytearray(middle.tobytes()), dtype=torch.uint8).reshape(32, 32, 3).permute(2, 0, 1)
    by_hand = edited(image, torch.tensor([1.0, -2, 1, 26, 0]))
    assert (by_hand.int() - resized.int()).abs().max() <= 1
    buffer = io.BytesIO()
    Image.fromarray(by_hand.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=60)
    again = torch.tensor(bytearray(Image.open(buffer).tobytes()), dtype=torch.uint8).reshape(32, 32, 3).permute(2, 0, 1)
    assert edited(image, torch.tensor([1.0, -2, 1, 26, 60])).equal(again)
    assert edited(image, torch.tensor([0.0, 0, 1, 32, 0])).equal(image)
    grey = image[:1]
    assert edited(grey, torch.tensor([0.0, 1, 1, 30, 50])).shape == grey.shape


KINDS = ("aggregate", "random1", "random2", "random3", "worst")


def labelled(data, folder, *, shift=1, **changes):
    """``data`` as if read from ``folder``, which gets a file of labels: wrong for every third sample."""
    wrong = torch.where(torch.arange(len(data.targets)) % 3 == 0, (data.targets + shift) % 4, data.targets)
    columns = {
        "clean": data.targets.tolist(),
        **{kind: data.targets.tolist() for kind in KINDS},
        "worst": wrong.tolist(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns | changes), folder / "labels.parquet")
    return dataclasses.replace(data, folder=folder), wrong


def test_human_labels_come_from_the_file(tmp_path):
    before, wrong = labelled(made(), tmp_path / "data")
    after = under(before, "noise=human-worst")
    assert after.targets.equal(wrong)
    assert after.train.targets.equal(wrong)
    assert after.train.images.equal(before.train.images)
    assert after.condition == "noise=human-worst"
    for kind in KINDS[:-1]:
        assert under(before, f"noise=human-{kind}").targets.equal(before.targets)
    given = under(dataclasses.replace(before, folder=None), f"noise=human-worst:{tmp_path}/data/labels.parquet")
    assert given.targets.equal(wrong)
    assert given.fingerprint == after.fingerprint  # the same labels, wherever they lie
    assert given.condition == f"noise=human-worst:{tmp_path}/data/labels.parquet"


def test_human_labels_may_lie_beside_the_data_and_have_the_authors_names(tmp_path):
    (tmp_path / "cifar10").mkdir()
    before, wrong = labelled(made(), tmp_path / "cifar10n")
    table = pq.read_table(tmp_path / "cifar10n" / "labels.parquet")
    names = ["clean_label", "aggre_label", "random_label1", "random_label2", "random_label3", "worse_label"]
    pq.write_table(table.rename_columns(names), tmp_path / "cifar10n" / "labels.parquet")
    assert under(dataclasses.replace(before, folder=tmp_path / "cifar10"), "noise=human-worst").targets.equal(wrong)


def test_each_image_keeps_its_human_label_whatever_became_of_the_set(tmp_path):
    before, wrong = labelled(made(), tmp_path)
    for condition in (
        "crawled=0.3+noise=human-worst",
        "long-tail=5+noise=human-worst",
        "redundant=4+noise=human-worst",
    ):
        after, plain = under(before, condition), under(before, condition.partition("+")[0])
        originals = [int(image.float().median()) for image, _ in plain.train]
        if "redundant" not in condition:  # where brightness does not name the image
            assert after.targets.tolist() == wrong[originals].tolist()
        assert after.train.images.equal(plain.train.images)
        assert 0 < int((after.targets != plain.targets).sum()) < len(plain.targets)
    noisy = under(before, "noise=human-worst+long-tail=5")
    assert noisy.targets.tolist() == wrong[names(noisy)].tolist()


def test_of_a_limited_set_the_human_labels_are_those_of_its_samples(tmp_path):
    whole, wrong = labelled(made((30, 40, 50, 40)), tmp_path)
    rows = label_checks.balanced(whole.targets, 50)
    part = dataclasses.replace(whole, train=whole.train.rows(rows), targets=whole.targets[rows])
    assert under(part, "noise=human-worst").targets.equal(wrong[rows])


def refused(data, kind="worst"):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        under(data, f"noise=human-{kind}")
    return str(error.value)


def test_human_labels_that_do_not_fit_are_refused(tmp_path):
    before, _ = labelled(made(), tmp_path)
    clean = before.targets.tolist()
    other = dataclasses.replace(made((41, 39, 40, 40)), folder=tmp_path)
    assert "its clean labels are not those of made: 1 of 160 differ" in refused(other)
    assert "are not those of made: it has 160 and the data 200" in refused(
        dataclasses.replace(made((50, 50, 50, 50)), folder=tmp_path)
    )
    labelled(made(), tmp_path, clean=clean[::-1])
    assert "160 of 160 differ" in refused(before)
    labelled(made(), tmp_path, worst=[7] * 160)
    assert "label 7 is outside 0..3" in refused(before)
    labelled(made(), tmp_path, worst=[None, *clean[1:]])
    assert "1 of its labels are null" in refused(before)
    labelled(made(), tmp_path, worst=["cat"] * 160)
    assert "not a usable file of labels" in refused(before)
    pq.write_table(pa.table({"clean": clean}), tmp_path / "labels.parquet")
    assert "lacks the column 'worst'; it has clean" in refused(before)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 and no more")
    assert "not a usable file of labels" in refused(before)
    (tmp_path / "labels.parquet").unlink()
    assert f"neither {tmp_path.resolve()}/labels.parquet nor " in refused(before)
    assert "Parquet file of labels" in refused(before, "worst:no/such.parquet")
    assert "lies in no folder: say where the labels are" in refused(made())


@pytest.mark.skipif(not (FOLDER / "cifar10n").exists(), reason=f"no CIFAR-10N in {FOLDER}; see LEANTRAIN_DATA")
def test_cifar10n_is_as_wrong_as_its_authors_say():
    clean = data.load(f"parquet:{FOLDER / 'cifar10'}", limit=5000, image_size=8, test_limit=10)
    said = {"aggregate": 0.0903, "random1": 0.1723, "random2": 0.1812, "random3": 0.1764, "worst": 0.4021}
    for kind in KINDS:
        wrong = under(clean, f"noise=human-{kind}").targets != clean.targets
        assert float(wrong.float().mean()) == pytest.approx(said[kind], abs=0.02)


ALL = ["noise=0.2", "redundant=4", "repeated=0.1", "long-tail=10", "long-tail=5+noise=0.4", "noise=0.4+long-tail=5"]
NEW = ["crawled=0.3", "near-copies=0.3", "near-copies=0.5+noise=0.2", "long-tail=5+crawled=0.5"]


@pytest.mark.parametrize("condition", [*ALL, *NEW])
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


@pytest.mark.parametrize("condition", [*ALL, *NEW, "redundant=2+long-tail=4", "redundant=2+near-copies=0.5+noise=0.2"])
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
        ("crawled=0", r"crawled=0.0 is outside \(0, 1\)"),
        ("crawled=30", r"crawled=30.0 is outside .*For 30 % pass 0.3"),
        ("near-copies", r"must read near-copies=NUMBER, such as near-copies=0.3"),
        ("noise=human", r"noise=human must read noise=human-KIND or noise=human-KIND:FILE, KIND one of aggregate"),
        ("noise=human-worse", r"must read .*Did you mean human-worst\?"),
        ("noise=human-worst:", r"noise=human-worst: must read"),
        ("noise=human-worst+noise=0.1", r"names noise twice"),
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
