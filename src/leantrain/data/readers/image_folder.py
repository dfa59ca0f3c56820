"""Image folders: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val), as torchvision's ImageFolder."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from leantrain.data.datasets import ImageData
from leantrain.data.readers.encoded import Encoded, Unreadable, first_dimensions, from_encoded

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp")
_SUFFIXES = (*_JPEG, ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
_SUFFIXES += (".jp2", ".j2k", ".avif")
_COMPANIONS = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".pdf", ".log")
_COMPANIONS += (".py", ".ipynb", ".db", ".ini", ".lnk")  # of images; nobody takes them for any
_LITTER = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")  # left by systems, as hidden files are
_TEST_NAMES = ("test", "val", "validation", "valid")
_SMALL = 64  # pixels; square images up to this side are used as they are
_LARGE = 224  # image_size of the others, unless given


def read(folder: Path, limit: int | None, image_size: int | None, unreadable: Unreadable = "raise") -> ImageData:
    """Read FOLDER; the classes are the sub-folders of ``train``, in the order of their names.

    Links are followed, files and class folders alike: subsets are often made of them. What they lead to is opened as
    an image and as nothing else. Hidden files and folders are no part of the data. What else is passed over is warned
    of: other suffixes, links that lead nowhere, folders linked within a class folder, pipes, files beside the classes.

    Without ``image_size``, the first training image decides: square and at most 64 pixels means that all are
    used as they are, anything else means 224.

    Raises:
        FileNotFoundError: no ``train`` folder, or none of test, val, validation, valid.
        ValueError: no classes, a class without images, a test class unknown to ``train``, or as ``from_encoded``.
        OSError: a folder that cannot be listed.
    """
    places = [folder / name for name in _TEST_NAMES if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not places:
        have = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folder"
        raise FileNotFoundError(f"{folder} needs the folders train and test (or val); it holds {have}.")
    classes = _classes(folder / "train")
    train, test = _split(folder / "train", classes), _split(places[0], classes)
    if image_size is None:
        width, height = first_dimensions(train, unreadable)
        image_size = None if width == height <= _SMALL else _LARGE
    name = f"imagefolder:{folder.name}"
    return from_encoded(name, train, test, classes, limit=limit, image_size=image_size, unreadable=unreadable)


def _classes(split: Path) -> list[str]:
    classes = sorted(path.name for path in split.iterdir() if path.is_dir() and not _is_litter(path.name))
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
    paths: list[Path] = []
    labels: list[int] = []
    beside = (path for path in split.iterdir() if path.suffix.lower() in _SUFFIXES and not _is_litter(path.name))
    passed = [(path, "beside the class folders") for path in sorted(beside)]
    for label, name in enumerate(classes):
        taken, others = [], []
        for path in _files(split / name):
            reason = _reason(path)
            if not reason:
                taken.append(path)
            elif path.suffix.lower() not in _COMPANIONS:
                others.append((path, reason))
        if not taken and split.name == "train":
            hint = f" It holds {_counted(others)}." if others else ""
            raise ValueError(f"{split / name} holds no images ({', '.join(_SUFFIXES)}).{hint}")
        paths += sorted(taken)
        labels += [label] * len(taken)
        passed += others
    if passed:
        first = ascii(passed[0][0].relative_to(split).as_posix())
        warnings.warn(
            f"{split}: {len(passed)} files are passed over: {_counted(passed)}; the first is {first}. The suffixes of "
            f"images are {', '.join(_SUFFIXES)}.",
            stacklevel=2,
        )
    names = [path.relative_to(split.parent).as_posix() for path in paths]
    return Encoded(paths, names, torch.tensor(labels, dtype=torch.int64), str(split))


def _files(folder: Path) -> Iterator[Path]:
    """All below ``folder`` that is not hidden: files, and folders that are links, which are not gone into."""

    def stop(error: OSError) -> None:
        raise error

    if not folder.exists():  # a class that the test split lacks
        return
    for place, inner, files in os.walk(folder, onerror=stop):
        inner[:] = [name for name in inner if not _is_litter(name)]
        linked = [name for name in inner if os.path.islink(os.path.join(place, name))]
        yield from (Path(place, name) for name in [*files, *linked] if not _is_litter(name))


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in _LITTER


def _reason(path: Path) -> str:
    """Why a file is passed over; empty for an image."""
    if path.is_dir():
        return "linked folders"
    if path.suffix.lower() not in _SUFFIXES:
        return f"suffix {ascii(path.suffix)[1:-1]}" if path.suffix else "no suffix"
    if path.is_file():
        return ""
    return "no regular file" if path.exists() else "links that lead nowhere"


def _counted(passed: list[tuple[Path, str]]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reason for _, reason in passed).most_common(8))
