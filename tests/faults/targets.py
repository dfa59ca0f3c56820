"""Everything that is read from disk: valid files of each kind, and what reads them."""

import json
import random
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import mutate
import numpy as np
import pyarrow as pa
import targets_data
import torch
from safetensors.torch import save_file
from target import Target, file, writing

from leantrain import data
from leantrain.checkpoint import format, tree_json
from leantrain.compare import runner, store
from leantrain.compare.config import CompareConfig
from leantrain.core.ledger import Ledger
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.embed import published
from leantrain.embed.features import Features
from leantrain.replay import parquet_parts, record_replay
from leantrain.report import counts
from leantrain.report import page as report_page
from leantrain.report import results as report_results
from leantrain.report.figures import kept_share
from leantrain.train import method_inputs
from leantrain.train.config import TrainConfig, read_yaml
from report.synthetic import write_results

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
CONFIG = """\
data: digits
epochs: 3
milestones: [0.3, 0.6]
settings:
  adonis: &a {theta: auto, stale_epochs: 2}
  ids@cosine: {distance: cosine, keep_ratio: 0.5}
  rs2: {keep_ratio: 0.3}
"""


def make(folder: Path) -> dict[str, Target]:
    """The targets by name, each with its own folder below ``folder``."""
    found: dict[str, Target] = {}
    own = _recordings, _features, _weights, _arrays, _configurations, _results, _store, _checkpoints
    for make in (*own, targets_data.cifar, targets_data.images, targets_data.parquet, targets_data.folders):
        place = folder / make.__name__.strip("_")
        place.mkdir()
        found |= make(place)
    return found


def _recordings(folder: Path) -> dict[str, Target]:
    plans = [Plan(torch.arange(40) % 13, torch.ones(40) * 0.5, (8,) * 5), Plan(torch.arange(9), lr_factor=2.0)]
    part, parts = folder / parquet_parts.name(0), []
    for plan in plans:
        parquet_parts.write(part, HEADER, plan)
        parts.append(part.read_bytes())
    later = folder / "two"
    parquet_parts.write(later / parquet_parts.name(0), HEADER, plans[0])
    parquet_parts.write(later / parquet_parts.name(1), HEADER | {"epoch": 1}, plans[1])

    def whole() -> None:
        run = Run(40, 8, 2.0, 0, Ledger(40), fingerprint="f" * 32)
        selector = record_replay.Replay(path=later)
        selector.setup(run)
        assert set(selector.settings()) == {"method", "settings", "recorded_epochs", "wrap_around"}
        for epoch in range(2):
            plan = selector.plan(epoch, torch.arange(40))
            assert 0 <= int(plan.indices.min()) <= int(plan.indices.max()) < 40

    def one() -> None:
        parquet_parts.read_header(part)
        parquet_parts.read(part)

    edits = _resealed, _resealed, _resealed, mutate.table
    return {
        "recording": Target(parts, writing(part, one), edits, name=part.name),
        "replay": file(later / parquet_parts.name(1), whole, *edits, name="two"),
    }


def _resealed(content: bytes, rng: random.Random) -> bytes:
    """A part of a recording with its header or a column changed, and the digest made right."""
    table = mutate.read_table(content)
    metadata = dict(table.schema.metadata or {})
    if parquet_parts.HEADER not in metadata:
        raise ValueError("no header")
    if rng.random() < 0.5:
        metadata[parquet_parts.HEADER] = mutate.json_text(metadata[parquet_parts.HEADER], rng)
        table = table.replace_schema_metadata(metadata)
    else:
        table = mutate.changed(table, rng)
        metadata = dict(table.schema.metadata or {})
    try:
        columns = {name: table[name].to_numpy() for name in set(table.column_names)}
        metadata[parquet_parts.DIGEST] = parquet_parts._digest(metadata[parquet_parts.HEADER], columns)
    except (pa.ArrowException, TypeError, BufferError) as error:
        raise ValueError("no digest of it") from error
    return mutate.write_table(table.replace_schema_metadata(metadata), rng)


def _features(folder: Path) -> dict[str, Target]:
    path = folder / "features.safetensors"
    Features(torch.rand(40, 8), "f" * 32, "resnet18", 1.5).save(path)
    return {"features": file(path, lambda: Features.load(path), mutate.tensors)}


def _weights(folder: Path) -> dict[str, Target]:
    weights = {"a.weight": torch.rand(4, 4), "a.bias": torch.rand(4)}
    new, zipped, old = folder / "weights.safetensors", folder / "weights.pth", folder / "old.pth"
    save_file(weights, str(new))
    torch.save(weights, zipped)
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    return {
        "weights, safetensors": file(new, lambda: published._read(new, "a model", "its place"), mutate.tensors),
        "weights, pth": file(zipped, lambda: published._read(zipped, "a model", "its place"), mutate.zipped),
        "weights, old pth": file(old, lambda: published._read(old, "a model", "its place")),
    }


def _arrays(folder: Path) -> dict[str, Target]:
    counts, losses = folder / "full-seed0.npy", folder / "full-seed0.loss.npy"
    np.save(counts, np.arange(100, dtype=np.int32))
    np.save(losses, np.linspace(0, 2, 100, dtype=np.float32))
    return {
        "npy": file(counts, lambda: store._read_column(counts)),
        "npy, floats": file(losses, lambda: store._read_column(losses, "f")),
    }


def _configurations(folder: Path) -> dict[str, Target]:
    """As the command line reads them, up to where data is read and a model made."""
    path, out = folder / "settings.yaml", folder / "out"

    def plain() -> None:
        assert len(repr(read_yaml(path))) < 2 * 10**7  # a text of a MB could stand for any number

    def train() -> None:
        config = TrainConfig(**read_yaml(path))
        method_inputs.check(config, config.settings)
        assert 0 <= config.learning_rate()(0.5) < float("inf")

    def compare() -> None:
        config = CompareConfig(**read_yaml(path))
        runner.jobs(config)
        method_inputs.check(config, config.methods)
        try:
            store.Store(out, config, "f")
        finally:
            shutil.rmtree(out, ignore_errors=True)

    edits, errors = (mutate.yaml_text,), (ValueError, TypeError)
    texts = [
        CONFIG.encode(),
        b"methods: [full, ids@x-1, adonis]\nseeds: [0, 1]\nsettings: {ids@x-1: {keep_ratio: 0.3}}\n",
    ]
    return {
        "yaml": Target(texts, writing(path, plain), edits, name=path.name),
        "yaml, train": Target(texts[:1], writing(path, train), edits, errors),
        "yaml, compare": Target(texts, writing(path, compare), edits, errors),
    }


class _Page(HTMLParser):
    """The tags of a page, and its attributes that could do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.deeds: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        outward = ("href", "src", "action", "formaction", "data", "xlink:href")
        for name, text in attrs:
            if name.startswith("on") or (name in outward and not (text or "").startswith(("#", "data:image/png"))):
                self.deeds.append(f"{name}={text}")


def _results(folder: Path) -> dict[str, Target]:
    write_results(folder, methods=["ids", "rs2"], seeds=2, samples=60, epochs=4)
    whole, page, path = report_results.load(folder), folder / "page", folder / "results.json"
    write_results(page, methods=["ids"], seeds=1, samples=20, epochs=2)
    tags = _Page(report_page.render(report_results.load(page), lambda _: np.zeros((4, 4), np.uint8))).tags

    def render() -> None:
        loaded = report_results.load(page)
        found = _Page(report_page.render(loaded, lambda _: np.zeros((4, 4), np.uint8)))
        assert "script" not in found.tags
        assert found.tags <= tags | {"a", "g", "path", "use", "defs", "style", "rect", "clippath", "br", "ul", "li"}
        assert found.deeds == []

    errors = ValueError, FileNotFoundError
    return {
        "results.json": file(path, lambda: report_results.load(folder), mutate.json_text, weight=0.4),
        "metrics.parquet": file(
            folder / kept_share.FILE, lambda: kept_share.kept_shares(whole), mutate.table, weight=0.2
        ),
        "counts.parquet": file(folder / counts.FILE, lambda: counts.load_counts(whole), mutate.table, weight=0.2),
        "report": file(page / "results.json", render, mutate.json_text, errors=errors, name="", weight=0.01),
    }


def _store(folder: Path) -> dict[str, Target]:
    """The folder of a comparison that goes on."""
    config, out = CompareConfig(methods=("full", "ids")), folder / "out"
    runs, known = out / "runs", out / "config.json"
    loaded = data.load("digits", limit=20)
    kept = store.Store(out, config, loaded.fingerprint)
    runs.mkdir()
    first, *others = (job for group in runner.jobs(config) for job in group)
    costs = {"fetch": 0.1, "score": None, "step": 0.2, "decide": 0.3}
    seconds = {f"{name}_seconds": 2.5 for name in ("train", "preprocess", "selection")}
    samples = {f"{name}_samples": 60 for name in ("forward", "backward", "loaded", "scored")}
    row = {"epoch": 0, "train_seconds": 1.5, "accuracy": 0.5, "train_loss": None, "lr": 0.1, "trained": 20}
    track = {"trajectory": [row], "costs": costs, "aside": {"forward": 0, "backward": 0}, "settings": {"a": 1}}
    facts = {"epochs": 3.0, "accuracy": 0.5, **seconds, **samples, **track, "events": {}, "class_accuracy": [0.5]}
    text = json.dumps({"facts": facts, "epochs": [row, row]})
    for name in (job.name for job in (first, *others)):
        (runs / f"{name}.json").write_text(text)
        np.save(runs / f"{name}.npy", np.ones(len(loaded.targets), np.int32))

    def go_on() -> None:
        known.write_text(whole)
        with mock.patch.object(runner, "describe", return_value={}):  # it asks git
            runner._run(config, loaded, out, resume=True, overwrite=False, on_epoch=None)

    whole, path = known.read_text(), runs / f"{first.name}.json"
    return {
        "finished run": file(path, lambda: kept.load(first), mutate.json_text),
        "comparison that goes on": file(
            path, go_on, mutate.json_text, name="", errors=(ValueError, TypeError), weight=0.3
        ),
        "config.json": file(
            known,
            lambda: store.Store(out, config, loaded.fingerprint, resume=True),
            mutate.json_text,
            name="out",
            weight=0.5,
        ),
    }


def _checkpoints(folder: Path) -> dict[str, Target]:
    tensors = {"weight": torch.rand(4, 4), "half": torch.ones(3).bfloat16(), "none": torch.zeros(0)}
    state = {"model": tensors, "epoch": 3, 7: (1, [None, -float("inf"), 2**70], {"$x": True}), "name": "größe"}
    place = format.save(folder, state, step=12, facts={"method": "ids", "epochs": 2.5, "seeds": (0, 1)})
    paths = {name: place / name for name in (format.TENSORS, format.STATE, format.MANIFEST)}
    whole = {name: path.read_bytes() for name, path in paths.items()}
    manifest = json.loads(whole[format.MANIFEST])
    del manifest["sha256"]

    def load() -> None:
        found = format.load_latest(folder)
        assert found is not None
        tree_json.pack(found.state, "state", {})  # what was read could be saved again
        tree_json.pack(found.facts, "facts", None)

    def sealed(name: str) -> Callable[[bytes], object]:
        """Writes the file and a manifest that agrees with it."""

        def write_and_read(content: bytes) -> None:
            for other, text in whole.items():
                paths[other].write_bytes(content if other == name else text)
            files = manifest["files"] | {name: format._measure(paths[name])}
            paths[format.MANIFEST].write_bytes(format._seal(manifest | {"files": files}))
            load()

        return write_and_read

    def facts(content: bytes) -> None:
        for other, text in whole.items():
            paths[other].write_bytes(text)
        try:
            text = format._seal(manifest | json.loads(content))
        except (ValueError, TypeError, RecursionError):
            text = content
        paths[format.MANIFEST].write_bytes(text)
        load()

    def damaged(content: bytes) -> None:
        for other, text in whole.items():
            paths[other].write_bytes(text)
        paths[format.MANIFEST].write_bytes(content)
        load()

    edits = {format.TENSORS: mutate.tensors, format.STATE: mutate.json_text}
    found = {
        f"checkpoint, {name}": Target([whole[name]], sealed(name), (edit,), name=folder.name)
        for name, edit in edits.items()
    }
    text = json.dumps(manifest).encode()
    found["checkpoint, facts"] = Target([text], facts, (mutate.json_text,), name=folder.name)
    found["checkpoint, manifest.json"] = Target(
        [whole[format.MANIFEST]], damaged, (mutate.json_text,), name=folder.name
    )
    return found
