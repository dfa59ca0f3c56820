"""``load``: specs, the digits, ``limit``, ``image_size`` and the fingerprint."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from leantrain.data import ArrayDataset, load, require_extra
from leantrain.data.datasets import from_arrays
from leantrain.data.label_checks import balanced


def arrays(n=20, classes=2, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return images, torch.arange(n) % classes


def test_digits_are_scikit_learns_own():
    data = load("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.train[0][0].shape == (1, 8, 8)
    assert (data.channels, data.image_size, data.classes) == (1, 8, tuple("0123456789"))
    # Every sample of the two splits is one of scikit-learn's, each of them once.
    ours = sorted(
        (int(label), bytes(image.flatten().tolist()))
        for part in (data.train, data.test)
        for image, label in (part[i] for i in range(len(part)))
    )
    digits = load_digits()
    theirs = sorted(
        (int(label), bytes(np.rint(image * 255 / 16).astype(np.uint8).flatten().tolist()))
        for image, label in zip(digits.images, digits.target, strict=True)
    )
    assert ours == theirs


def test_digits_split_keeps_class_shares_and_is_the_same_each_time():
    first, second = load("digits"), load("digits")
    assert torch.equal(first.train.images, second.train.images)
    shares = first.test_targets.bincount() / first.targets.bincount()
    assert shares.min() > 0.24
    assert shares.max() < 0.26


def test_moments_are_those_of_the_training_pixels():
    data = load("digits", limit=100)
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx([float(pixels.mean())])
    assert data.std == pytest.approx([float(pixels.std(correction=0))])


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("digit", ValueError, "unknown data set 'digit'. Did you mean 'digits'?"),
        ("parkuet:/x", ValueError, "Did you mean 'parquet:DIR'?"),
        ("zzz", ValueError, "Known: digits, parquet:DIR, imagefolder:DIR, cifar10:DIR, cifar100:DIR."),
        ("digits:/x", ValueError, "takes no folder"),
        ("cifar10", ValueError, "write cifar10:DIR"),
        ("cifar10:/no/such", FileNotFoundError, "/no/such is not a folder"),
    ],
)
def test_bad_specs_are_explained(spec, error, text):
    with pytest.raises(error) as caught:
        load(spec)
    assert text in str(caught.value)


@pytest.mark.parametrize("option", ["limit", "image_size"])
def test_numbers_have_to_be_positive(option):
    with pytest.raises(ValueError, match=rf"{option}=0\. It is"):
        load("digits", **{option: 0})


def test_limit_takes_the_first_of_each_class_in_turn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (60,), generator=generator)
    labels[labels == 3] = 2  # a class without samples
    labels[-1] = 4
    for limit in (4, 5, 7, 23, 41, 59):
        # By hand: deal out the classes' samples one by one until `limit` are taken.
        queues = {c: [i for i in range(60) if labels[i] == c] for c in (0, 1, 2, 4)}
        taken = []
        while len(taken) < limit:
            heads = sorted(queue.pop(0) for queue in queues.values() if queue)
            taken += heads[: limit - len(taken)]
        assert balanced(labels, limit).tolist() == sorted(taken)


def test_limit_beyond_the_data_keeps_everything_and_below_the_classes_is_refused():
    labels = torch.tensor([0, 1, 2, 0])
    assert (
        balanced(labels, 4).tolist() == balanced(labels, 99).tolist() == balanced(labels, None).tolist() == [0, 1, 2, 3]
    )
    with pytest.raises(ValueError, match="limit=2 is smaller than the 3 classes"):
        balanced(labels, 2)


def test_limited_data_is_a_part_of_the_whole():
    whole, part = load("digits"), load("digits", limit=95)
    assert len(part.train) == 95
    assert len(part.test) == 360
    assert sorted(part.targets.bincount().tolist()) == [9] * 5 + [10] * 5
    rows = balanced(whole.targets, 95)
    assert torch.equal(part.train.images, whole.train.images[rows])
    assert torch.equal(part.targets, part.train.targets)
    assert torch.equal(part.targets, whole.targets[rows])


@pytest.mark.parametrize("size", [16, 4])
def test_image_size_resizes_as_pillow_does(size):
    data, stored = load("digits", limit=20, image_size=size), load("digits", limit=20)
    assert data.image_size == size
    for part, original in ((data.train, stored.train), (data.test, stored.test)):
        pillow = [
            np.asarray(Image.fromarray(original[i][0][0].numpy()).resize((size, size), Image.Resampling.BILINEAR))
            for i in range(20)
        ]
        difference = part.images[:20, 0].numpy().astype(int) - np.stack(pillow)
        assert np.abs(difference).max() <= 1  # Pillow computes with fixed point ...
        assert abs(difference.mean()) < 0.2  # ... and rounds, as we do


def test_fingerprint_is_of_the_training_content():
    test = arrays(6, seed=9)

    def fingerprint(train, limit=None, image_size=None, name="a", test=test):
        return from_arrays(name, train, test, "ab", limit=limit, image_size=image_size).fingerprint

    images, targets = arrays()
    base = fingerprint((images, targets))
    assert len(base) == 32
    assert int(base, 16) >= 0
    assert fingerprint((images.clone(), targets.clone()), name="b", test=arrays(4)) == base
    pixel, label = images.clone(), targets.clone()
    pixel[3, 1, 2, 0] ^= 1
    label[3] = 0
    others = [
        fingerprint((pixel, targets)),
        fingerprint((images, label)),
        fingerprint((images.flip(0), targets.flip(0))),
        fingerprint((images, targets), limit=19),
        fingerprint((images, targets), image_size=8),
    ]
    assert len({base, *others}) == 6


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "a (train) holds no samples"),
        ([0, 1, 2, 0], "a (train), row 2: label 2 is outside 0..1 (2 classes; 1 such rows)"),
        ([0, -1, 1, 0], "row 1: label -1 is outside 0..1"),
        ([1, 1, 1, 1], "all 4 samples have label 1 (b); a classifier needs at least 2 classes"),
    ],
)
def test_labels_nobody_can_train_on_are_refused(labels, text):
    images = torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        from_arrays("a", (images, torch.tensor(labels, dtype=torch.int64)), arrays(), "ab", limit=None, image_size=None)
    assert text in str(caught.value)


def test_augmentation_suits_the_data():
    assert load("digits").augment == {"pad": 1, "flip": False}
    for size, expected in ((32, {"pad": 4, "flip": True}), (96, {"resized_crop": True, "flip": True})):
        data = from_arrays("a", arrays(size=size), arrays(size=size), "ab", limit=None, image_size=None)
        assert data.augment == expected


def test_constant_channel_does_not_divide_by_zero():
    images, targets = arrays()
    images[:, 1] = 7
    data = from_arrays("a", (images, targets), arrays(), "ab", limit=None, image_size=None)
    assert data.std[1] == 1 / 255


def test_batches_equal_single_samples():
    images, targets = arrays()
    dataset = ArrayDataset(images, targets)
    assert len(dataset) == 20
    for rows in ([3, 0, 19, 3], [5], []):
        batch = dataset.__getitems__(rows)
        assert [label for _, label in batch] == [dataset[i][1] for i in rows]
        assert all(torch.equal(image, dataset[i][0]) for (image, _), i in zip(batch, rows, strict=True))
    x, y = next(iter(DataLoader(dataset, batch_size=8)))
    assert torch.equal(x, images[:8])
    assert torch.equal(y, targets[:8])
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)


def test_array_dataset_wants_one_target_per_image():
    with pytest.raises(ValueError, match="20 images and 19 targets"):
        ArrayDataset(arrays()[0], arrays()[1][:19])


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "sklearn"), ("pyarrow.parquet", "pyarrow"), ("PIL.Image", "PIL")]
)
def test_a_missing_package_comes_with_the_install_command(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'^{package} is not installed.*pip install "leantrain\[train\]"$'):
        require_extra(module, "train")


def test_a_package_that_lacks_one_of_its_own_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        require_extra("broken_package", "train")


def test_loading_leaves_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load("digits", limit=50)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
