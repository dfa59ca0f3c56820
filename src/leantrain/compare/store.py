"""The folder of a comparison: one file a finished run, so that an interrupted comparison goes on where it was."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from leantrain.checkpoint.format import remove
from leantrain.compare.config import CompareConfig
from leantrain.compare.job import Job
from leantrain.train.config import REMEDIES, with_defaults
from leantrain.train.facts import Number, RunFacts, first_error
from leantrain.train.trainer import RunResult
from leantrain.utils import untrusted_input
from leantrain.utils.atomic_write import LOCK, write_json, write_whole

# What a method's label may add to a file's name: no separator, nothing that a shell or a file system reads otherwise.
_NAME = re.compile(r"[\w@+.,=-][\w@+.,= -]*")
_LONGEST = 200  # bytes; file systems allow 255 with what is added
_COLUMNS = {"trained": "iu", "loss": "f", "distance": "f"}  # per sample, and the kinds of number they hold
_ROWS = TypeAdapter(list[dict[str, Number | None]])


@dataclass(frozen=True)
class StoredRun:
    """A finished run: its facts, a row an epoch, and what is kept per sample, (N,) each."""

    facts: RunFacts
    epochs: list[dict[str, Any]]
    samples: dict[str, np.ndarray]


class Store:
    """The runs of one comparison on disk: ``DIR/config.json`` and ``DIR/runs/*``.

    Args:
        folder: DIR.
        config: a folder that holds another configuration's comparison is refused; seeds may be added to one.
        fingerprint: of the data set; a folder of other data is refused as well.
        resume: whether to go on with what is there.
        overwrite: whether to remove an earlier comparison's files first.
    """

    def __init__(
        self, folder: Path, config: CompareConfig, fingerprint: str, *, resume: bool = False, overwrite: bool = False
    ) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out {folder} is a file; give a folder.")
        if (folder / "runs").is_symlink():
            raise ValueError(
                f"{folder / 'runs'} is a link; its files would be written and removed elsewhere. Unlink it."
            )
        for method in config.methods:  # before hours of training
            self._path(method)
        described = {"config": config.model_dump(mode="json"), "data": fingerprint}
        known = folder / "config.json"
        if not known.exists() and folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
            raise ValueError(f"--out {folder} is not empty and holds no comparison of ours. Give another folder.")
        if overwrite and known.exists():
            there = read_json(known)
            if not (isinstance(there, dict) and isinstance(there.get("config"), dict)):
                raise ValueError(f"{known} is no comparison's. Give another --out.")
            for path in [known, *folder.glob("runs/*.json"), *folder.glob("runs/*.npy")]:
                path.unlink(missing_ok=True)
            for path in folder.glob("runs/*.checkpoints"):
                remove(path)
        if known.exists():
            self._check_same(read_json(known), described)
            if not resume:
                raise ValueError(f"{folder} holds this comparison already. Pass --resume to go on, or another --out.")
        write_json(known, described)

    def load(self, job: Job) -> StoredRun | None:
        """What a finished run left; None if it is not finished. A file does not decide whose run it is."""
        path = self._path(job.name)
        if not path.exists():
            return None
        content = read_json(path)
        facts, rows = (content.get(part) if isinstance(content, dict) else content for part in ("facts", "epochs"))
        try:
            found = RunFacts.model_validate(facts | dataclasses.asdict(job) if isinstance(facts, dict) else facts)
            rows = _ROWS.validate_python(rows)
        except ValidationError as error:
            raise ValueError(
                f"{path} is not what a finished run leaves ({first_error(error)}). Remove it; --resume then runs it "
                "again."
            ) from None
        places = {column: self._column(job.name, column) for column in _COLUMNS}
        samples = {column: _read_column(place, _COLUMNS[column]) for column, place in places.items() if place.exists()}
        return StoredRun(found, rows, samples)

    def save(self, job: Job, result: RunResult) -> StoredRun:
        """Keep a finished run."""
        facts, samples = result.facts.model_dump(), {name: column.numpy() for name, column in result.samples.items()}
        for column, values in samples.items():
            write_whole(self._column(job.name, column), lambda place, values=values: _write_column(place, values))
        # Last: its presence says finished.
        write_json(self._path(job.name), {"facts": facts, "epochs": result.epochs})
        return StoredRun(RunFacts.model_validate(facts | dataclasses.asdict(job)), result.epochs, samples)

    def checkpoints(self, job: Job) -> Path:
        """Folder of the checkpoints of a run that is under way."""
        return self._path(job.name).with_suffix(".checkpoints")

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST:
            raise ValueError(
                f"The method {name!r} cannot name a file. After the @, use up to {_LONGEST} letters, digits and any of "
                "@ + . , = - and spaces."
            )
        return self.folder / "runs" / f"{name}.json"

    def _column(self, name: str, column: str) -> Path:
        """Of one array: how often trained stands in NAME.npy, other columns in NAME.COLUMN.npy."""
        return self._path(name).with_suffix(".npy" if column == "trained" else f".{column}.npy")

    def _check_same(self, there: Any, here: dict[str, Any]) -> None:
        there = with_defaults(CompareConfig, there, here)
        if not isinstance(there, dict) or there.get("data") != here["data"]:
            raise ValueError(
                f"{self.folder} holds a comparison on other data, or the data set changed since. Give another --out."
            )
        old, new = there.get("config"), here["config"]
        if not isinstance(old, dict):
            raise ValueError(f"{self.folder / 'config.json'} holds no configuration. Give another --out.")
        old = old | _free(old, new)
        if other := sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
            changes = ", ".join(f"{key} {old.get(key)!r} there, {new.get(key)!r} here" for key in other)
            raise ValueError(
                f"{self.folder} holds a comparison of another configuration ({changes}). Give another --out."
            )


def _free(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Of ``new``, what a resumed comparison may change: no run that is finished would have gone otherwise with it."""
    free = {name: new.get(name) for name in (*REMEDIES, "note")}
    seeds = old.get("seeds")
    grown = isinstance(seeds, list) and all(seed in new["seeds"] for seed in seeds)
    return free | ({"seeds": new["seeds"]} if grown else {})


def read_json(path: Path) -> Any:
    try:
        return untrusted_input.read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it; --resume then runs it again.") from error


def _write_column(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def _read_column(path: Path, kinds: str = "iu") -> np.ndarray:
    """(N,) numbers of NumPy's ``kinds``. Mapped first, so that a header that claims too much allocates nothing."""
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.ndim != 1 or mapped.dtype.kind not in kinds:
            raise ValueError(f"it holds {mapped.dtype} of shape {mapped.shape}")
        return np.array(mapped)
    except Exception as error:  # NumPy parses the header as Python text, which raises nearly every type
        raise ValueError(
            f"{path} is damaged ({error}). Remove it and the .json beside it; --resume runs it again."
        ) from error
