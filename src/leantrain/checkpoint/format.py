"""Checkpoints on disk, for a run that goes on exactly where it was. Without pickle: loading one runs no code.

A checkpoint is a folder: ``tensors.safetensors``; ``state.json``, the tree without them; and, written last,
``manifest.json`` with step, facts, and size and SHA-256 of the other two. The folder is there whole or not at all.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from leantrain.checkpoint.tree_json import Tree, pack, unpack
from leantrain.utils.atomic_write import code
from leantrain.utils.optional_import import require_extra
from leantrain.utils.validation import integer

VERSION = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
LIMIT = 16 * 2**20  # bytes of a JSON text, of which reading makes some 30 times as much


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What ``load_latest`` found.

    Attributes:
        state: the tree that was saved. Its tensors lie on the CPU, contiguous, each with memory of its own.
        step: of the run, when it was saved.
        facts: about the run, as they were saved.
        path: the folder of this checkpoint.
    """

    state: Tree
    step: int
    facts: dict[str, Any]
    path: Path


def save(folder: Path, state: Tree, *, step: int, facts: dict[str, Any] | None = None, keep: int = 2) -> Path:
    """Write ``folder/step-000001234``, whole or not at all, then remove all but the newest ``keep``.

    One process at a time writes to a folder. A checkpoint of the same step is replaced.

    Args:
        folder: of all checkpoints of the run; made when missing.
        state: a tree as ``trees.pack`` takes it. Its tensors take their memory a second time while it is written.
        step: of the run, at least 0.
        facts: about the run, for whoever resumes it: a tree without tensors.
        keep: how many checkpoints stay.

    Raises:
        TypeError: ``state`` or ``facts`` holds what cannot be kept; the message says where.
        ValueError: they are too large or nested too deep; or a whole checkpoint of a later step is there.
        OSError: it could not be written. The checkpoints before it are whole.
    """
    library, step, keep = _safetensors(), integer("step", step, least=0, most=math.inf), integer("keep", keep, least=1)
    if not isinstance(facts, dict | None):
        raise TypeError(f"facts={facts!r} must be a dict, not {type(facts).__name__}.")
    tensors: dict[str, Tensor] = {}
    tree = pack(state, "state", tensors)
    manifest = {"version": VERSION, "step": step, "facts": pack(facts or {}, "facts", None)}
    path = folder / f"step-{step:09d}"
    partial = _aside(path, "new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        for number, other in _checkpoints(folder):
            if number > step and not isinstance(_read(other), str):
                raise ValueError(
                    f"{other} is of a later step than {step}, the one to save: this run did not go on from it. Load it "
                    f"first, remove it, or give another folder."
                )
        partial.mkdir()
        library.torch.save_file(tensors, partial / TENSORS)
        _write(partial / STATE, _dump(tree))
        manifest["files"] = {name: _measure(partial / name) for name in (TENSORS, STATE)}
        _write(partial / MANIFEST, _seal(manifest))
        for place in (partial / TENSORS, partial / STATE, partial / MANIFEST, partial):
            _sync(place)
        if path.exists():  # no call puts one folder in place of another: the old one is ``.old`` in between
            backup = path.with_suffix(".old")
            os.replace(path, _aside(path, "gone") if backup.exists() else backup)
        os.replace(partial, path)
        _sync(folder)
        kept: set[int] = set()
        for number, other in _checkpoints(folder):
            if number > step or number in kept or len(kept) == keep:  # a later one is damaged, see above
                _discard(other)
            else:
                kept.add(number)
        _remove_leftovers(folder)
    except (OSError, library.SafetensorError) as error:
        number = code(error) or errno.EIO
        text = f"{os.strerror(number)} while saving {path}. The checkpoints before it are whole"
        raise OSError(number, text) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def load_latest(folder: Path, *, check: Callable[[dict[str, Any]], object] | None = None) -> Checkpoint | None:
    """The newest whole checkpoint; None when there is none at all. A damaged one is passed over with a warning.

    Args:
        folder: of the checkpoints.
        check: called with the checkpoint's facts; raises when they are not those of this run.

    Raises:
        ValueError: every checkpoint is damaged, or the newest whole one is of another format.
    """
    _safetensors()
    damaged: list[str] = []
    for _, path in _checkpoints(folder):
        checkpoint = _read(path)
        if isinstance(checkpoint, str):
            damaged.append(f"{path} is damaged: {checkpoint}")
            continue
        for text in damaged:
            warnings.warn(f"{text}. The checkpoint before it is used: {path}.", stacklevel=2)
        if check is not None:
            check(checkpoint.facts)
        return checkpoint
    if damaged:
        raise ValueError(f"No checkpoint is whole. {'; '.join(damaged)}. To start anew, empty {folder}.")
    return None


def remove(folder: Path) -> None:
    """Remove the checkpoints in ``folder``, and then the folder unless something else lies in it."""
    for _, path in _checkpoints(folder):
        _discard(path)
    _remove_leftovers(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _read(path: Path) -> Checkpoint | str:
    """The checkpoint in ``path``, or what is wrong with it. ValueError: it is whole and of another format."""
    try:
        manifest = _manifest(path)
        if manifest["version"] == VERSION:
            for name in (TENSORS, STATE):
                told = manifest["files"][name]
                if _regular(path / name).stat().st_size != told["size"] or _measure(path / name) != told:
                    return f"{name} is not what size and SHA-256 in {MANIFEST} say"
            tensors = _tensors(path / TENSORS)
            state, facts = unpack(_parse(_text(path / STATE), STATE), tensors), unpack(manifest["facts"], {})
            if tensors or not isinstance(facts, dict):
                return f"{STATE} leaves out {len(tensors)} tensors, facts are a {type(facts).__name__}"
            return Checkpoint(state, manifest["step"], facts, path)
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        return (str(error) or type(error).__name__).splitlines()[0]
    raise ValueError(
        f"{path} is of format {manifest['version']!r}, and this leantrain reads format {VERSION}. Resume with the "
        f"leantrain that wrote it."
    )


def _manifest(path: Path) -> dict[str, Any]:
    text = _text(path / MANIFEST)
    content = _parse(text, MANIFEST)
    if not isinstance(content, dict) or content.keys() != {"version", "step", "facts", "files", "sha256"}:
        raise ValueError(f"{MANIFEST} is no manifest")
    del content["sha256"]
    if _seal(content) != text:
        raise ValueError(f"{MANIFEST} is not what its SHA-256 says")
    if type(content["step"]) is not int or path.stem != f"step-{content['step']:09d}":
        raise ValueError(f"{MANIFEST} is of step {content['step']!r}, which the folder's name does not say")
    return content


def _tensors(path: Path) -> dict[str, Tensor]:
    library = _safetensors()
    try:
        with library.safe_open(str(path), framework="pt") as file:  # it maps the file: copies outlive its removal
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no dict
    except library.SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _parse(text: bytes, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None


def _dump(content: Any) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")  # so that any str comes back as it was


def _seal(manifest: dict[str, Any]) -> bytes:
    """The text of a manifest, its digest at the end. Sealing what was read shows whether a byte of it changed."""
    return _dump(manifest | {"sha256": hashlib.sha256(_dump(manifest)).hexdigest()})


def _write(path: Path, text: bytes) -> None:
    if len(text) > LIMIT:
        raise ValueError(f"{path.name} would take over {LIMIT // 2**20} MiB. Keep long lists of numbers as tensors.")
    path.write_bytes(text)


def _text(path: Path) -> bytes:
    if _regular(path).stat().st_size > LIMIT:
        raise ValueError(f"{path.name} takes over {LIMIT // 2**20} MiB")
    return path.read_bytes()


def _regular(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    return path


def _measure(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and place of each, the newest first; of one step, what ``save`` set aside comes last."""
    steps = [path for path in folder.glob("step-*") if re.fullmatch(r"step-(\d{9}|[1-9]\d{9,})(\.old)?", path.name)]
    pairs = [(int(path.stem[5:]), path) for path in steps if path.is_dir() and not path.is_symlink()]
    return sorted(pairs, key=lambda pair: (pair[0], not pair[1].suffix), reverse=True)


def _aside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _discard(path: Path) -> None:
    """Set a checkpoint aside for ``_remove_leftovers``; one stays in whose folder somebody else put a file."""
    if {inside.name for inside in path.iterdir()} <= {TENSORS, STATE, MANIFEST}:
        os.replace(path, _aside(path, "gone"))  # at once, where removing it takes its time


def _remove_leftovers(folder: Path) -> None:
    """Remove what this process, or one that is no more, left under a name of ``_aside``."""
    for path in folder.glob(".step-*"):
        name = re.fullmatch(r"\.step-.+\.(\d{1,9})\.(new|gone)", path.name)
        if name and (int(name[1]) == os.getpid() or not _alive(int(name[1]))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _safetensors() -> Any:
    """``safetensors`` with its ``torch`` part, or an ImportError that says how to install it."""
    require_extra("safetensors.torch", "train", "a checkpoint")
    return require_extra("safetensors", "train")
