"""The files of data sets, as targets: CIFAR's pickles, images, Parquet, folders."""

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import mutate
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from target import Target, file, writing

from leantrain import data
from leantrain.data.readers import cifar as cifar_files
from leantrain.data.readers import decode

IMAGES = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
NO_PALETTE = ("JPEG", "PPM", "JPEG2000", "AVIF")


def cifar(folder: Path) -> dict[str, Target]:
    batch, names = folder / "data_batch_1", folder / "batches.meta"
    content = {"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1, 2]}
    batches = [pickle.dumps(content, protocol=protocol) for protocol in (0, 2, 4)]
    names.write_bytes(pickle.dumps({"label_names": ["cat", "dog"], "num_vis": 3072}, protocol=2))
    return {
        "cifar": Target(
            batches[1:], writing(batch, lambda: cifar_files._split(batch, "labels")), (mutate.pickled,), name=batch.name
        ),
        "cifar names": file(names, lambda: cifar_files._names(names, "label_names"), mutate.pickled),
    }


def images(folder: Path) -> dict[str, Target]:
    found = {}
    colours = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    for form in IMAGES:
        path, seeds = folder / f"image.{form.lower()}", []
        for mode in ("RGB", "L", "P", "1"):
            if (form, mode) in (("JPEG2000", "1"), ("AVIF", "1")) or (form in NO_PALETTE and mode == "P"):
                continue
            image = Image.fromarray(colours).convert(mode)
            for options in ({}, {"compression": "tiff_deflate"}) if form == "TIFF" else ({},):
                image.save(path, form, **options)
                seeds.append(path.read_bytes())

        def read(path: Path = path) -> None:
            width, height = decode.dimensions(path, path.name)
            image = decode.decode(path.read_bytes(), path.name, size=8)
            assert width > 0 < height
            assert image.shape[1:] == (8, 8)

        found[form] = Target(seeds, writing(path, read), (mutate.png,) if form == "PNG" else (), name=path.name)
    return found


def _coded(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(folder: Path) -> dict[str, Target]:
    table = pa.table({"image": [{"bytes": _coded("red"), "path": "a.png"}] * 4, "label": [0, 1, 0, 1]})
    names = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    plain = pa.table({"image": [_coded("red"), _coded("blue")], "label": ["cat", "dog"]})
    tables = [table.replace_schema_metadata({b"huggingface": json.dumps(names).encode()}), plain]
    found, train = {}, []
    for number, table in enumerate(tables):
        place = folder / f"set{number}"
        place.mkdir()
        for split in ("train", "test"):
            pq.write_table(table, place / f"{split}.parquet", compression="zstd")

        def read(place: Path = place) -> None:
            loaded = data.load(f"parquet:{place}")
            assert all(isinstance(name, str) for name in loaded.classes)

        train.append((place / "train.parquet").read_bytes())
        found[f"parquet {number}"] = file(place / "train.parquet", read, mutate.table, name="")
    return found


def folders(folder: Path) -> dict[str, Target]:
    """An image folder with a hostile image in it, and one whose classes have hostile names."""
    for split, name in ((s, n) for s in ("train", "test") for n in ("cat", "dog")):
        (folder / "set" / split / name).mkdir(parents=True)
        (folder / "set" / split / name / "0.png").write_bytes(_coded("red"))
    path = folder / "set" / "train" / "cat" / "0.png"

    def load() -> None:
        loaded = data.load(f"imagefolder:{folder / 'set'}")
        assert loaded.train[0][0].shape == loaded.train[1][0].shape

    def classes(content: bytes) -> None:
        place = folder / "named"
        names = {name[:200] for name in content.replace(b"/", b"").replace(b"\0", b"").split(b"\n")[:9]}
        try:
            for name in names - {b"", b".", b".."}:
                for split in ("train", "test"):
                    inner = os.path.join(os.fsencode(place / split), name)
                    os.makedirs(inner)
                    os.symlink(folder / "set" / "test" / "cat" / "0.png", os.path.join(inner, b"0.png"))
            loaded = data.load(f"imagefolder:{place}")
            assert all(name.isprintable() for name in loaded.classes)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    names = "\n".join(("<script>alert(1)</script>", "..x", "größe", "{{7*7}}", "~", "$HOME", "-rf")).encode()
    errors = ValueError, FileNotFoundError
    return {
        "image folder": file(path, load, mutate.png, name="", weight=0.5),
        "class names": Target([names, b"cat\ndog"], classes, errors=errors, weight=0.2),
    }
