"""Valid files of every kind that is read from disk, what reads each, and random damage to them."""

import io
import json
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from leantrain import data, recording
from leantrain.compare import store
from leantrain.data import cifar, decode
from leantrain.embed import extractors
from leantrain.embed.features import Features
from leantrain.report import counts, files, plot_kept
from leantrain.report import results as report_results
from leantrain.selector import Plan
from leantrain.train.config import read_yaml
from report.synthetic import write_results

DOCUMENTED = (ValueError, TypeError, OSError)
IMAGES = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
HEADER = {
    "fingerprint": "f" * 32,
    "size": 40,
    "seed": 0,
    "method": "RPD",
    "settings": {"keep": 0.5},
    "epoch": 0,
    "epochs": 3,
    "lr_factor": 1.0,
}

Kind = tuple[Path, Callable[[], Any]]  # the file to damage, what reads it


def make(folder: Path) -> dict[str, Kind]:
    """One file of each kind in ``folder``, by name of the kind."""
    kinds: dict[str, Kind] = {}
    part = folder / recording.name(0)
    recording.write(part, HEADER, Plan(torch.arange(40) % 13, torch.ones(40) * 0.5, (8,) * 5))
    kinds["recording"] = part, lambda: recording.read(part)
    features = folder / "features.safetensors"
    Features(torch.rand(40, 8), "f" * 32, "resnet18", 1.5).save(features)
    kinds["features"] = features, lambda: Features.load(features)
    weights = {"a.weight": torch.rand(4, 4), "a.bias": torch.rand(4)}
    first, second = folder / "weights.safetensors", folder / "weights.pth"
    save_file(weights, str(first))
    torch.save(weights, second)
    kinds["weights, safetensors"] = first, lambda: extractors._read(first)
    kinds["weights, pth"] = second, lambda: extractors._read(second)
    array = folder / "run.npy"
    np.save(array, np.arange(100, dtype=np.int32))
    kinds["npy"] = array, lambda: store._read_counts(array)
    settings = folder / "settings.yaml"
    settings.write_text("data: digits\nepochs: 3\nseeds: [0, 1]\nsettings:\n  adonis: &a {theta: auto}\n  ids: *a\n")
    kinds["yaml"] = settings, lambda: read_yaml(settings)
    batch = folder / "data_batch_1"
    batch.write_bytes(pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1, 2]}, protocol=2))
    kinds["cifar"] = batch, lambda: cifar._split(batch, "labels")
    for form in IMAGES:
        kinds[form] = _image(folder / f"image.{form.lower()}", form)
    kinds["parquet"] = _data_set(folder / "table")
    kinds.update(_results(folder / "results"))
    return kinds


def _image(path: Path, form: str) -> Kind:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, form, **({"compression": "tiff_deflate"} if form == "TIFF" else {}))
    return path, lambda: decode.decode(path, path.name, size=8)


def _data_set(folder: Path) -> Kind:
    folder.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    table = pa.table({"image": [{"bytes": buffer.getvalue(), "path": "a.png"}] * 4, "label": [0, 1, 0, 1]})
    names = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    table = table.replace_schema_metadata({b"huggingface": json.dumps(names).encode()})
    for split in ("train", "test"):
        pq.write_table(table, folder / f"{split}.parquet", compression="zstd")
    return folder / "train.parquet", lambda: data.load(f"parquet:{folder}")


def _results(folder: Path) -> dict[str, Kind]:
    write_results(folder, methods=["ids", "rs2"], seeds=2, samples=60, epochs=4)
    whole = report_results.load(folder)
    return {
        "results.json": (folder / "results.json", lambda: report_results.load(folder)),
        "json": (folder / "results.json", lambda: store.read_json(folder / "results.json")),
        "metrics.parquet": (folder / plot_kept.FILE, lambda: plot_kept.kept_shares(whole)),
        "counts.parquet": (folder / counts.FILE, lambda: counts.load_counts(whole)),
        "run.json": (folder / "results.json", lambda: files.read_json(folder / "results.json")),
    }


def damage(content: bytes, rng: random.Random) -> bytes:
    """``content`` with one to four changes: bytes, runs of bytes, lengths, pieces lost, doubled or moved."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            out[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f", b"9", b"[", b"{")) * length
        elif kind == 3:
            del out[at : at + rng.choice((length, len(out)))]
        elif kind == 4:
            out[at:at] = out[at : at + length * 4] * rng.choice((1, 2, 50))
        else:
            out[at : at + 8] = (2 ** rng.choice((7, 15, 31, 32, 47, 62, 63)) - 1).to_bytes(
                8, rng.choice(("little", "big"))
            )
    return bytes(out)


def attempt(kind: Kind, content: bytes) -> str:
    """Read ``content`` in the place of the file: "" or the documented error, which names the file. Puts it back."""
    path, read = kind
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except DOCUMENTED as error:
        text = str(error)
        if path.name not in text:
            raise AssertionError("the error names no file") from error
        return text
    finally:
        path.write_bytes(before)
    return ""


def fuzz(folder: Path, executions: int, seed: int) -> dict[str, Any]:
    """Damage and read each kind in turn. Counts executions and refusals; the first undocumented error is raised."""
    import resource
    import time

    kinds, refused, slowest = make(folder), 0, (0.0, "")
    for number in range(executions):
        name = list(kinds)[number % len(kinds)]
        content = damage(kinds[name][0].read_bytes(), random.Random(f"{seed} {number}"))
        start = time.process_time()
        try:
            refused += bool(attempt(kinds[name], content))
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}, execution {number}")
            raise
        slowest = max(slowest, (time.process_time() - start, name))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"executions": executions, "refused": refused, "slowest": slowest, "peak": peak}


if __name__ == "__main__":
    import sys
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(fuzz(Path(place), int(sys.argv[1]), int(sys.argv[2]))))
