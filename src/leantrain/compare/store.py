"""The folder of a comparison: one file a finished run, so that an interrupted comparison goes on where it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from leantrain.compare.config import CompareConfig
from leantrain.files import write_json, write_whole
from leantrain.train.trainer import RunResult


class Store:
    """The runs of one comparison on disk: ``DIR/config.json`` and ``DIR/runs/*``.

    Args:
        folder: DIR.
        config: a folder that holds another configuration's comparison is refused.
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
        described = {"config": config.model_dump(mode="json"), "data": fingerprint}
        known = folder / "config.json"
        if not known.exists() and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"--out {folder} is not empty and holds no comparison of ours. Give another folder.")
        if overwrite:
            for path in [known, *folder.glob("runs/*.json"), *folder.glob("runs/*.npy")]:
                path.unlink(missing_ok=True)
        if known.exists():
            self._check_same(read_json(known), described)
            if not resume:
                raise ValueError(f"{folder} holds this comparison already. Pass --resume to go on, or another --out.")
        write_json(known, described)

    def load(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray | None] | None:
        """Facts, epoch rows and per-sample counts of a finished run; None if it is not finished."""
        path, counts = self._paths(name)
        if not path.exists():
            return None
        content = read_json(path)
        return content["facts"], content["epochs"], np.load(counts, allow_pickle=False) if counts.exists() else None

    def save(self, name: str, result: RunResult) -> None:
        """Keep a finished run."""
        path, counts = self._paths(name)

        def write(place: Path) -> None:
            with place.open("wb") as file:
                np.save(file, result.trained.numpy(), allow_pickle=False)

        write_whole(counts, write)
        write_json(path, {"facts": result.facts, "epochs": result.epochs})  # last: its presence says finished

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / "runs" / f"{name}.json", self.folder / "runs" / f"{name}.npy"

    def _check_same(self, there: Any, here: dict[str, Any]) -> None:
        if there == here:
            return
        if not isinstance(there, dict) or there.get("data") != here["data"]:
            raise ValueError(
                f"{self.folder} holds a comparison on other data, or the data set changed since. Give another --out."
            )
        old, new = there.get("config", {}), here["config"]
        other = [key for key in {*old, *new} if old.get(key) != new.get(key)]
        changes = ", ".join(f"{key} {old.get(key)!r} there, {new.get(key)!r} here" for key in sorted(other))
        raise ValueError(f"{self.folder} holds a comparison of another configuration ({changes}). Give another --out.")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it; --resume then runs it again.") from error
