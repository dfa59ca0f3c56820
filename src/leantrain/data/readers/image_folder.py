"""Image folders: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val), as torchvision's ImageFolder."""

from __future__ import annotations

from pathlib import Path

import torch

from leantrain.data.datasets import ImageData
from leantrain.data.readers.decode import dimensions
from leantrain.data.readers.encoded import Encoded, from_encoded

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_TEST_NAMES = ("test", "val", "validation", "valid")
_SMALL = 64  # pixels; square images up to this side are used as they are
_LARGE = 224  # image_size of the others, unless given


def read(folder: Path, limit: int | None, image_size: int | None) -> ImageData:
    """Read FOLDER; the classes are the sub-folders of ``train``, in the order of their names.

    Links are followed, files and class folders alike: subsets are often made of them. What they lead to is opened as
    an image and as nothing else; folders linked within a class folder are passed over, and so are pipes and devices.

    Without ``image_size``, the first training image decides: square and at most 64 pixels means that all are
    used as they are, anything else means 224.

    Raises:
        FileNotFoundError: no ``train`` folder, or none of test, val, validation, valid.
        ValueError: no classes, a class without images, a test class unknown to ``train``, or as ``from_encoded``.
    """
    places = [folder / name for name in _TEST_NAMES if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not places:
        have = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folder"
        raise FileNotFoundError(f"{folder} needs the folders train and test (or val); it holds {have}.")
    classes = _classes(folder / "train")
    train, test = _split(folder / "train", classes), _split(places[0], classes)
    if image_size is None:
        width, height = dimensions(train.sources[0], train.names[0])
        image_size = None if width == height <= _SMALL else _LARGE
    return from_encoded(f"imagefolder:{folder.name}", train, test, classes, limit=limit, image_size=image_size)


def _classes(split: Path) -> list[str]:
    classes = sorted(path.name for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise ValueError(f"{split} holds no class folders; expected {split}/CLASS/*.jpg.")
    for name in classes:
        if not name.isprintable():
            raise ValueError(f"{split}: the class folder {name!r} has letters in its name that cannot be printed.")
    return classes


def _split(split: Path, classes: list[str]) -> Encoded:
    unknown = [name for name in _classes(split) if name not in classes]
    if unknown:
        raise ValueError(f"{split / unknown[0]}: class {unknown[0]!r} does not occur in the training folder.")
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(
            path
            for path in (split / name).rglob("*")
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not found and split.name == "train":
            raise ValueError(f"{split / name} holds no images ({', '.join(_SUFFIXES)}).")
        paths += found
        labels += [label] * len(found)
    names = [path.relative_to(split.parent).as_posix() for path in paths]
    return Encoded(paths, names, torch.tensor(labels, dtype=torch.int64), str(split))
