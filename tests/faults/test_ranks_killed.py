"""Ranks started by torchrun: killed in mid-epoch, terminated, and gone on with, also in another number."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

LIMIT = 240.0


def launched(folder: Path, ranks: int, *options: str, method: str = "sb", restarts: int = 0) -> subprocess.Popen[str]:
    """``torchrun`` of a training of ``method`` on digits, in a session of its own."""
    run = f"-m torch.distributed.run --standalone --nproc-per-node {ranks} --max-restarts {restarts}".split()
    train = f"-m leantrain train --out {folder} --method {method} --epochs 4 --limit 600 --batch-size 48".split()
    fixed = ["--device", "cpu", "--threads", "1", "--width", "4", "--resume"]
    return subprocess.Popen(
        [sys.executable, *run, *train, *fixed, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(launch: subprocess.Popen[str]) -> str:
    """What it printed, once it ended well."""
    try:
        said, _ = launch.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(launch.pid, signal.SIGKILL)
        raise
    assert launch.returncode == 0, said
    return said


def workers_of(launch: subprocess.Popen[str]) -> list[int]:
    """Process numbers of the ranks, in their order."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launch.pid)], capture_output=True, text=True, check=False
    )
    return sorted(int(line) for line in listed.stdout.split())


def wait_for(folder: Path, step: int) -> None:
    """Until the training has a checkpoint of at least ``step``."""
    end = time.monotonic() + LIMIT
    while not any(int(path.name[5:14]) >= step for path in folder.glob("checkpoints/step-*")):
        assert time.monotonic() < end, "no checkpoint came"
        time.sleep(0.02)


def outcome(folder: Path) -> tuple[dict, dict]:
    run = json.loads((folder / "run.json").read_text())
    timed = "environment train_seconds preprocess_seconds selection_seconds total_seconds costs trajectory config"
    for name in timed.split():
        run.pop(name)
    for row in run["epochs_done"]:
        row.pop("train_seconds"), row.pop("selection_seconds")
    return run, {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}


@pytest.fixture
def every_step(tmp_path: Path) -> str:
    path = tmp_path / "every-step.yaml"
    path.write_text("checkpoint_seconds: 0\n")
    return f"--config={path}"


@pytest.mark.slow
@pytest.mark.parametrize(("method", "victim"), [("sb", 0), ("infobatch", 1), ("ids+adonis", 1)])
def test_a_killed_rank_is_restarted_and_nothing_differs(
    tmp_path: Path, every_step: str, method: str, victim: int
) -> None:
    finished(launched(tmp_path / "straight", 2, method=method))
    launch = launched(tmp_path / "killed", 2, every_step, method=method, restarts=2)
    wait_for(tmp_path / "killed", 9)
    os.kill(workers_of(launch)[victim], signal.SIGKILL)
    finished(launch)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    assert not (tmp_path / "killed" / "checkpoints").exists()


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_at_the_end_of_an_epoch(tmp_path: Path, every_step: str) -> None:
    launch = launched(tmp_path, 2, every_step)
    wait_for(tmp_path, 20)
    os.killpg(launch.pid, signal.SIGKILL)
    for worker in workers_of(launch):
        os.kill(worker, signal.SIGKILL)
    launch.communicate()
    said = finished(launched(tmp_path, 3, every_step))
    assert "The run was on 2 ranks and is on 3 now: it goes on from its last whole epoch." in said
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["ranks"] == 3
    assert [row["epoch"] for row in run["epochs_done"]] == [0, 1, 2, 3]


@pytest.mark.slow
def test_terminated_ranks_keep_the_run(tmp_path: Path, every_step: str) -> None:
    launch = launched(tmp_path / "cut", 2, every_step)
    wait_for(tmp_path / "cut", 9)
    os.kill(launch.pid, signal.SIGTERM)
    launch.communicate(timeout=LIMIT)
    assert launch.returncode != 0
    assert list((tmp_path / "cut").glob("checkpoints/step-*"))
    finished(launched(tmp_path / "cut", 2))
    finished(launched(tmp_path / "straight", 2))
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "straight")
