"""The CIFAR reader: the right pixels, and no code from a pickle."""

import pickle
import struct

import numpy as np
import pytest
import torch

from leantrain.data import load

NAMES10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pixels(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def dump(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    for i in range(1, 6):
        labels = [(i + j) % 10 for j in range(4)]
        dump(folder / f"data_batch_{i}", {"data": pixels(4, i), "labels": labels, "filenames": ["a.png"] * 4})
    dump(folder / "test_batch", {"data": pixels(3, 9), "labels": [1, 2, 3]})
    dump(folder / "batches.meta", {"label_names": NAMES10, "num_vis": 3072})
    return tmp_path


def test_cifar10_pixels_labels_and_names(cifar10):
    for spec in (f"cifar10:{cifar10}", f"cifar10:{cifar10}/cifar-10-batches-py"):
        data = load(spec)
        expected = np.concatenate([pixels(4, i) for i in range(1, 6)]).reshape(-1, 3, 32, 32)
        assert np.array_equal(data.train.images.numpy(), expected)
        assert data.targets.tolist() == [(i + j) % 10 for i in range(1, 6) for j in range(4)]
        assert np.array_equal(data.test.images.numpy(), pixels(3, 9).reshape(-1, 3, 32, 32))
        assert data.test_targets.tolist() == [1, 2, 3]
        assert data.classes == tuple(NAMES10)
        assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        assert data.augment == {"pad": 4, "flip": True}


def test_cifar100_takes_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    names = ["apple", "aquarium_fish", "baby", *(f"class{i}" for i in range(97))]
    for split in ("train", "test"):
        dump(folder / split, {"data": pixels(3, 1), "fine_labels": [0, 99, 5], "coarse_labels": [1, 1, 1]})
    dump(folder / "meta", {"fine_label_names": names, "coarse_label_names": ["x"] * 20})
    data = load(f"cifar100:{tmp_path}")
    assert data.targets.tolist() == [0, 99, 5]
    assert len(data.classes) == 100
    assert (data.mean, data.std) == ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def python2(images, labels):
    """A batch file as the original archives hold it: NumPy's old module name, and strings of bytes."""

    def string(text):
        return b"T" + struct.pack("<I", len(text)) + text  # BINSTRING

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + string(b"b") + b"tR"
        b"(K\x01(K" + bytes([len(images)]) + b"M\x00\x0ctcnumpy\ndtype\n(" + string(b"u1") + b"K\x00K\x01tR"
        b"(K\x03"
        + string(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + string(images.tobytes())
        + b"tb"
    )
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + b"](" + numbers + b"eu."


def test_files_as_python_2_wrote_them_are_read(cifar10):
    (cifar10 / "cifar-10-batches-py" / "test_batch").write_bytes(python2(pixels(2, 5), [4, 7]))
    data = load(f"cifar10:{cifar10}")
    assert data.test_targets.tolist() == [4, 7]
    assert torch.equal(data.test.images, torch.from_numpy(pixels(2, 5)).view(2, 3, 32, 32))


def test_the_handmade_pickle_is_what_numpy_reads():
    content = pickle.loads(python2(pixels(2, 5), [4, 7]), encoding="latin1")
    assert np.array_equal(content["data"], pixels(2, 5))
    assert content["labels"] == [4, 7]


def test_an_empty_batch_is_refused(cifar10):
    (cifar10 / "cifar-10-batches-py" / "test_batch").write_bytes(python2(pixels(0, 5), []))
    with pytest.raises(ValueError, match="0 bytes of type u1 for 0 labels"):
        load(f"cifar10:{cifar10}")


class Touch:
    """Pickles to a call that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("place", ["value", "array element"])
def test_no_code_in_a_pickle_runs(cifar10, tmp_path, place):
    evidence = tmp_path / "evidence"
    attack = Touch(evidence)
    content = {"data": pixels(1, 0), "labels": [1], "x": attack}
    if place == "array element":
        content = {"data": np.array([attack], dtype=object), "labels": [1]}
    dump(cifar10 / "cifar-10-batches-py" / "test_batch", content)
    with pytest.raises(ValueError, match=r"test_batch is not a readable CIFAR file: it asks for (_?io|builtins)\.open"):
        load(f"cifar10:{cifar10}")
    assert not evidence.exists()


@pytest.mark.parametrize("name", ["numpy.load", "builtins.eval", "numpy.ndarray.tofile", "os.system"])
def test_nothing_but_the_four_names_is_known(cifar10, name):
    module, _, attribute = name.rpartition(".")
    content = b"\x80\x02c" + module.encode() + b"\n" + attribute.encode() + b"\n."
    (cifar10 / "cifar-10-batches-py" / "batches.meta").write_bytes(content)
    with pytest.raises(ValueError, match=f"it asks for {name}, which no CIFAR file needs"):
        load(f"cifar10:{cifar10}")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"data": pixels(2, 0)}, "lacks an array 'data' or a list 'labels'"),
        ({"data": [1], "labels": [0]}, "lacks an array 'data' or a list 'labels'"),
        ({"data": pixels(2, 0), "labels": [0]}, "6144 bytes of type u1 for 1 labels; expected uint8, 3072 per label"),
        ({"data": pixels(1, 0).astype(np.float32), "labels": [0] * 4}, "bytes of type f4 for 4 labels"),
        ({"data": pixels(1, 0), "labels": ["cat"]}, "'labels' holds something else than integers"),
        ({"data": pixels(1, 0), "labels": [10]}, "label 10 is outside 0..9"),
        ({"data": pixels(1, 0), "labels": []}, "3072 bytes of type u1 for 0 labels"),
        ([1, 2], "holds a list; expected a dictionary"),
        ({"data": np.asfortranarray(pixels(2, 0)), "labels": [0, 1]}, "an array in column order"),
    ],
)
def test_other_content_is_explained(cifar10, content, text):
    dump(cifar10 / "cifar-10-batches-py" / "test_batch", content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        load(f"cifar10:{cifar10}")
    assert text in str(caught.value)


def test_truncated_and_missing_files_are_named(cifar10):
    file = cifar10 / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="data_batch_3 is not a readable CIFAR file"):
        load(f"cifar10:{cifar10}")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_3 is missing"):
        load(f"cifar10:{cifar10}")
