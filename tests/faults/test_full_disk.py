"""A disk that runs full while a run is kept: what failed is named, what was there is whole, with room it goes on."""

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import Command, command, one_paragraph, same  # noqa: F401 - a fixture

from leantrain.checkpoint import format
from leantrain.checkpoint.manager import Checkpoints
from leantrain.utils.atomic_write import code, write_whole

FULL = "No space left on device while"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # a process that ends may still hold a file of it


def fill(disk: Path, room: int = 0) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - room)


def full_at(monkeypatch: pytest.MonkeyPatch, disk: Path, step: int, room: int = 0, keep: bool = True) -> None:
    """Let ``disk`` run full after that many steps; ``keep``: checkpoints are tried after that, too."""
    after_step = Checkpoints.after_step

    def after(self, state):
        after_step(self, state)
        if self._step == step and not (disk / "ballast").exists():
            fill(disk, room)
            self.seconds = 0.0 if keep else 1e9

    monkeypatch.setattr(Checkpoints, "after_step", after)


def newest(folder: Path) -> int:
    found = format.load_latest(folder)
    assert found is not None
    return found.step


def test_a_checkpoint(command: Command, tmp_path: Path, disk: Path, monkeypatch) -> None:  # noqa: F811
    out = disk / "out"
    full_at(monkeypatch, disk, 7)
    code, said = command("train", "--method", "sb", "--out", out)
    assert code == 1
    assert one_paragraph(said)
    assert f"{FULL} saving {out / 'checkpoints' / 'step-000000008'}. The checkpoints before it are whole" in said
    assert f"The checkpoint of step 7 in {out / 'checkpoints'} is whole; --resume goes on from it." in said
    assert newest(out / "checkpoints") == 7
    fill(disk)  # removing what was left half written made some room, enough for the lock
    again, said = command("train", "--method", "sb", "--out", out, "--resume")  # no room yet
    assert (again, newest(out / "checkpoints")) == (1, 7)
    assert one_paragraph(said)
    assert f"{FULL} saving {out / 'checkpoints' / 'step-000000008'}" in said  # it came as far as before
    (disk / "ballast").unlink()
    assert command("train", "--method", "sb", "--out", out, "--resume") == (0, "")
    assert command("train", "--method", "sb", "--out", tmp_path / "straight") == (0, "")
    same(out, tmp_path / "straight")


def test_a_recording(command: Command, tmp_path: Path, disk: Path, monkeypatch) -> None:  # noqa: F811
    out, record = disk / "out", disk / "picks"
    words = ("train", "--method", "sb", "--seed", 1)
    full_at(monkeypatch, disk, 5, keep=False)
    code, said = command(*words, "--out", out, "--record", record)
    assert code == 1
    assert one_paragraph(said)
    assert f"{FULL} writing {record / 'epoch-0000'}" in said
    assert "What was there before is whole" in said
    assert newest(out / "checkpoints") == 5
    (disk / "ballast").unlink()
    assert command(*words, "--out", out, "--record", record, "--resume") == (0, "")
    assert command(*words, "--out", tmp_path / "straight", "--record", tmp_path / "whole") == (0, "")
    same(out, tmp_path / "straight")
    parts = sorted((tmp_path / "whole").iterdir())
    assert [part.name for part in parts] == sorted(part.name for part in record.iterdir())
    assert parts
    for part in parts:
        assert pq.read_table(part).equals(pq.read_table(record / part.name))


@pytest.mark.parametrize(("room", "file"), [(0, "run.json"), (12 * 1024, "model.safetensors")])
def test_a_result(room: int, file: str, command: Command, tmp_path: Path, disk: Path, monkeypatch) -> None:  # noqa: F811
    out = disk / "out"
    full_at(monkeypatch, disk, 15, room, keep=False)  # the last step
    code, said = command("train", "--width", 16, "--out", out)
    assert code == 1
    assert one_paragraph(said)
    assert f"{FULL} writing {out / file}. What was there before is whole" in said
    assert newest(out / "checkpoints") == 15
    (disk / "ballast").unlink()
    assert command("train", "--width", 16, "--out", out, "--resume") == (0, "")
    assert command("train", "--width", 16, "--out", tmp_path / "straight") == (0, "")
    same(out, tmp_path / "straight")


def test_a_comparison(command: Command, disk: Path, monkeypatch) -> None:  # noqa: F811
    out = disk / "out"
    words = ("compare", "--methods", "rs2", "--epochs", 2, "--out", out)
    full_at(monkeypatch, disk, 10, keep=False)  # the last step of the first run
    code, said = command(*words)
    assert code == 1
    assert one_paragraph(said)
    assert f"{FULL} writing {out / 'runs' / 'full-seed0'}" in said
    (disk / "ballast").unlink()
    assert command(*words, "--resume") == (0, "")
    assert len(json.loads((out / "results.json").read_text())["runs"]) == 3


def test_arrays(disk: Path) -> None:
    """NumPy says how much it wrote, but not why it wrote no more."""
    (disk / "runs").mkdir()
    path = disk / "runs" / "a.npy"
    path.write_bytes(b"before")
    fill(disk, 4096)

    def write(place: Path) -> None:
        with place.open("wb") as file:
            np.save(file, np.zeros(10**5))

    with pytest.raises(
        OSError, match=r"requested and \d+ written while writing .*a\.npy\. What was there before is whole"
    ) as caught:
        write_whole(path, write)
    assert caught.value.errno == errno.EIO
    assert path.read_bytes() == b"before"
    assert os.listdir(disk / "runs") == ["a.npy"]


class Library(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EDQUOT, "no"), errno.EDQUOT),
        (OSError("no number"), errno.EIO),
        (Library("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (Library("no fault of the disk"), None),
    ],
)
def test_the_number_of_a_librarys_error(error: Exception, expected: int | None, tmp_path: Path) -> None:
    def write(place: Path) -> None:
        place.write_text("half of it")
        raise error

    assert code(error) == expected
    kind = type(error) if expected is None else OSError
    with pytest.raises(kind) as caught:
        write_whole(tmp_path / "file", write)
    assert getattr(caught.value, "errno", None) == expected
    assert not [*tmp_path.iterdir()]
