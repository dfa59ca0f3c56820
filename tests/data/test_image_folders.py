"""What an image folder takes, what it passes over and says, and images in it that cannot be read."""

import dataclasses
import io
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, features
from test_encoded_images import png

from leantrain.data import ArrayDataset, LazyDataset, load
from leantrain.data.readers import encoded
from leantrain.data.unreadable_images import with_readable_test
from leantrain.train.config import TrainConfig
from leantrain.train.trainer import train


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes, four training and two test images each, 8x8."""
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.png").write_bytes(png(20 * label + i)[1])
    return tmp_path


def break_(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    "place", [".ipynb_checkpoints", "inner/.cache", "__MACOSX", "inner/@eaDir", "../__MACOSX", "../.git"]
)
def test_what_systems_and_notebooks_leave_is_no_part_of_a_class(tree: Path, place: str) -> None:
    whole = load(f"imagefolder:{tree}")
    folder = tree / "train" / "cat" / place
    folder.mkdir(parents=True)
    (folder / "0-checkpoint.png").write_bytes(png(0)[1])
    (tree / "train" / "cat" / "._1.png").write_bytes(b"\0\5\x16\7")
    (tree / "train" / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (tree / "train" / ".DS_Store").write_bytes(b"\0")
    again = load(f"imagefolder:{tree}")
    assert (again.classes, again.fingerprint) == (("cat", "dog"), whole.fingerprint)


def test_folders_within_a_class_are_gone_into(tree: Path) -> None:
    inner = tree / "train" / "cat" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "5.png").write_bytes(png(5)[1])
    assert load(f"imagefolder:{tree}").targets.tolist() == [0] * 5 + [1] * 4


FORMS = {
    ".jfif": "JPEG",
    ".JPE": "JPEG",
    ".TIFF": "TIFF",
    ".pbm": "PPM",
    ".jp2": "JPEG2000",
    ".dib": "BMP",
    ".avif": "AVIF",
}


@pytest.mark.parametrize("suffix", FORMS)
def test_suffixes(tree: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    image = Image.open(io.BytesIO(png(77)[1])).convert("1" if suffix == ".pbm" else "RGB")
    image.save(tree / "train" / "cat" / f"new{suffix}", FORMS[suffix])
    data = load(f"imagefolder:{tree}")
    assert data.targets.tolist() == [0] * 5 + [1] * 4
    assert isinstance(data.train, ArrayDataset)
    if suffix not in (".jfif", ".JPE", ".avif", ".pbm"):  # exact
        assert torch.equal(data.train.images[4].permute(1, 2, 0), torch.from_numpy(png(77)[0]))


def test_what_is_passed_over_is_said(tree: Path) -> None:
    for name in ("a.heic", "b.heic", "c.cr2", "n01440764_18"):
        (tree / "train" / "cat" / name).write_bytes(b"?")
    (tree / "train" / "stray.jpg").write_bytes(png(3)[1])
    (tree / "train" / "dog" / "notes.txt").write_text("no image")
    os.symlink(tree / "train" / "dog", tree / "train" / "cat" / "dogs")
    os.symlink(tree / "train" / "cat" / "loop.png", tree / "train" / "cat" / "loop.png")
    with pytest.warns(UserWarning, match="7 files are passed over") as caught:
        assert load(f"imagefolder:{tree}").targets.tolist() == [0] * 4 + [1] * 4
    (said,) = [str(warning.message) for warning in caught]
    for part in (
        "2 suffix .heic",
        "1 suffix .cr2",
        "1 no suffix",
        "1 linked folders",
        "1 links that lead nowhere",
        "jfif",
    ):
        assert part in said
    assert "the first is 'stray.jpg'" in said


def test_a_class_of_other_suffixes_only(tree: Path) -> None:
    for path in [*(tree / "train" / "cat").iterdir()]:
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(ValueError, match=r"train/cat holds no images .*It holds 4 suffix \.heic"):
        load(f"imagefolder:{tree}")


def test_names_that_cannot_be_shown(tree: Path) -> None:
    place = os.fsencode(tree / "train" / "cat")
    for name in (b"a\nb.png", b"\xff\xfe.png"):
        with open(place + b"/" + name, "wb") as file:
            file.write(png(1)[1])
    assert len(load(f"imagefolder:{tree}").train) == 10
    for name in (b"a\nb.png", b"\xff\xfe.png"):
        with open(place + b"/" + name, "wb") as file:
            file.write(b"broken")
        with pytest.raises(ValueError, match="is not a readable image") as caught:
            load(f"imagefolder:{tree}")
        assert str(caught.value).isprintable()


@pytest.mark.skipif(os.getuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed(tree: Path) -> None:
    inner = tree / "train" / "cat" / "inner"
    inner.mkdir(mode=0)
    with pytest.raises(PermissionError, match="inner"):
        load(f"imagefolder:{tree}")
    inner.chmod(0o700)


# Images that cannot be read


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "16 bits"])
def test_small_images_are_left_out_or_named(tree: Path, split: str, kind: str) -> None:
    whole, broken = load(f"imagefolder:{tree}"), tree / split / "dog" / "0.png"
    if kind == "16 bits":
        Image.new("I;16", (8, 8)).save(broken)
    else:
        broken.write_bytes(broken.read_bytes()[:100] if kind == "truncated" else b"")
    with pytest.raises(ValueError, match=rf"{split}/dog/0\.png .*or leave such images out: unreadable=\"skip\""):
        load(f"imagefolder:{tree}")
    with pytest.warns(
        UserWarning, match=rf"{split}: 1 of \d images cannot be read and are left out: {split}/dog/0\.png"
    ):
        data = load(f"imagefolder:{tree}", unreadable="skip")
    assert isinstance(data.train, ArrayDataset)
    kept = [i for i in range(8) if split == "test" or i != 4]
    tested = [i for i in range(4) if split == "train" or i != 2]
    for part, place in ((data.train, kept), (data.test, tested)):
        before = whole.train if part is data.train else whole.test
        assert torch.equal(part.images, before.images[place])  # pyright: ignore[reportAttributeAccessIssue]
        assert part.targets.tolist() == before.targets[place].tolist()
    assert torch.equal(data.targets, data.train.targets)
    assert torch.equal(data.test_targets, data.test.targets)


@pytest.mark.parametrize("size", [None, 8, 200])
def test_the_first_image_may_be_the_broken_one(tree: Path, size: int | None) -> None:
    break_(tree / "train" / "cat" / "0.png")
    (tree / "train" / "cat" / "0.png").write_bytes(b"?")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(f"imagefolder:{tree}", image_size=size, unreadable="skip")
    assert len(caught) == (size != 200)  # 200: decoded when asked for
    assert data.image_size == (size or 8)
    assert len(data.train) == 8 - (size != 200)


def test_more_than_half_is_no_matter_of_single_images(tree: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(3):
            break_(tree / "train" / name / f"{i}.png")
    with pytest.raises(ValueError, match=r"6 of 8 images cannot be read, more than half.*train/cat/0\.png"):
        load(f"imagefolder:{tree}", unreadable="skip")


def test_an_image_of_another_size_is_not_left_out(tree: Path) -> None:
    (tree / "train" / "dog" / "1.png").write_bytes(png(0, (8, 9))[1])
    with pytest.raises(ValueError, match=r"train/dog/1\.png is 8x9; the first training image is 8x8"):
        load(f"imagefolder:{tree}", unreadable="skip")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown unreadable 'ignore'"):
        load("digits", unreadable="ignore")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_broken_test_image_shows_before_the_training(tree: Path, monkeypatch: Any, policy: Any) -> None:
    """Of those that are decoded when asked for; with "skip" the accuracy is that of the others."""
    monkeypatch.setattr(encoded, "_IN_MEMORY", 0)
    break_(tree / "test" / "cat" / "1.png")
    data = load(f"imagefolder:{tree}", image_size=8, unreadable=policy)
    assert isinstance(data.test, LazyDataset)
    config = TrainConfig(width=4, epochs=1, batch_size=4, device="cpu", unreadable=policy)
    trained: list[Any] = []
    if policy == "raise":
        with pytest.raises(ValueError, match=r"test/cat/1\.png is not a readable image.*unreadable=\"skip\""):
            train(config, data, "full", 0, after_epoch=trained.append)
        assert not trained
        return
    with pytest.warns(UserWarning, match=r"The test set of imagefolder:.*: 1 of 4 images cannot be read"):
        result = train(config, data, "full", 0, after_epoch=trained.append)
    whole = dataclasses.replace(data, test=data.test.rows(torch.tensor([0, 2, 3])))
    assert result.facts.accuracy == train(config, whole, "full", 0).facts.accuracy


def test_a_test_set_is_tried_once(tree: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(encoded, "_IN_MEMORY", 0)
    data = load(f"imagefolder:{tree}")
    assert with_readable_test(data, "raise") is data
    break_(tree / "test" / "cat" / "1.png")
    assert with_readable_test(data, "raise") is data
    assert len(load(f"imagefolder:{tree}", test_limit=2).test) == 2
