"""Damaged files of every kind: only documented errors, nothing done that a reader must not do, bounded memory.

``LEANTRAIN_FUZZ`` sets how many of them the slow test reads; ``fuzz.py`` reads as many as it is told.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mutate
import pytest
from guard import Guard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from target import Target, attempt
from targets import make

SLOW = ("report",)  # half a second each; left to the harness


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    return Guard(tmp_path_factory.mktemp("box") / "in")


@pytest.fixture(scope="module")
def targets(guard: Guard) -> dict[str, Target]:
    folder = Path(guard.folder)
    folder.mkdir()
    found = make(folder)
    for name, target in found.items():  # what is imported on the way is imported now
        for seed in target.seeds:
            assert attempt(target, seed) == "", f"{name}: an undamaged file is refused"
    return found


def test_every_kind_of_file_is_among_the_targets(targets: dict[str, Target]) -> None:
    assert len(targets) == 37
    assert all(target.seeds for target in targets.values())


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(choice=st.randoms(use_true_random=False))
def test_damaged_files_are_read_or_refused(targets: dict[str, Target], guard: Guard, choice: random.Random) -> None:
    target = targets[choice.choice(sorted(targets.keys() - set(SLOW)))]
    content = mutate.mutate(choice.choice(target.seeds), target.edits, choice, target.seeds)
    with guard.watching():
        attempt(target, content)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"PAR1PAR1", b"\x93NUMPY\x01\x00\xff\xff", b"\xff" * 4096, b"[]"])
def test_files_of_another_kind_are_refused(targets: dict[str, Target], guard: Guard, content: bytes) -> None:
    for name, target in targets.items():
        if name != "class names" or not content:  # nearly anything is a name
            with guard.watching():
                assert attempt(target, content), name


DEEDS: dict[str, Callable[[Path], object]] = {
    "open": lambda place: (place / "evil").open("w"),
    "os.open": lambda place: os.open(place / "evil", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda place: (place / "evil").mkdir(),
    "rename in": lambda place: os.rename(place / "kept", place / "in" / "kept"),
    "rename out": lambda place: os.rename(place / "in" / "mine", place / "mine"),
    "remove": lambda place: (place / "kept").unlink(),
    "by way of ..": lambda place: (place / "in" / ".." / "evil").write_text("x"),
    "link": lambda place: os.link(place / "kept", place / "in" / "other"),
    "program": lambda place: subprocess.run(["true"], check=False),
    "shell": lambda place: os.system("true"),
    "fork": lambda place: os.fork() or os._exit(0),
    "socket": lambda place: socket.socket(),
    "eval": lambda place: eval("1 + 1"),
    "import": lambda place: __import__("antigravity"),
}


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("deed", DEEDS)
def test_the_guard_stops_and_tells(deed: str, swallowed: bool, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine").write_text("")
    (tmp_path / "kept").write_text("")
    guard = Guard(tmp_path / "in")
    reader = contextlib.suppress(PermissionError) if swallowed else contextlib.nullcontext()
    with pytest.raises(AssertionError, match="a reader must not do this"), guard.watching(), reader:
        DEEDS[deed](tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "kept", "mine"]


def test_the_guard_lets_readers_be(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    guard = Guard(tmp_path / "in")
    with guard.watching():
        (tmp_path / "in" / "mine").write_text(Path(__file__).read_text())
        os.replace(tmp_path / "in" / "mine", tmp_path / "in" / "other")
    (tmp_path / "free").write_text("")  # asleep again


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_harness_finds_nothing(tmp_path: Path) -> None:
    executions = int(os.environ.get("LEANTRAIN_FUZZ", "20000"))
    harness = [sys.executable, str(Path(__file__).parent / "fuzz.py"), "--executions", str(executions)]
    seed, out = os.environ.get("LEANTRAIN_FUZZ_SEED", "0"), tmp_path / "fuzz.json"
    paths = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [*harness, "--seed", seed, "--out", str(out)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads(out.read_text())
    assert found["crashes"] == 0
    assert found["executions"] >= executions
    assert found["executions"] / 10 < found["refused"] < 0.98 * found["executions"]  # neither harmless nor all at once
    assert found["peak_bytes"] < 2**30
