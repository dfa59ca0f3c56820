"""Thousands of damaged files of every kind: only documented errors, bounded memory. LEANTRAIN_FUZZ sets how many."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_damaged_files_are_read_or_refused_in_bounded_memory() -> None:
    executions = int(os.environ.get("LEANTRAIN_FUZZ", "20000"))
    seed = os.environ.get("LEANTRAIN_FUZZ_SEED", "0")
    # A process of its own: its peak memory is then that of the readers, and a crash of a decoder is seen.
    done = subprocess.run(
        [sys.executable, str(HERE / "kinds.py"), str(executions), seed],
        env=os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["executions"] == executions
    assert found["refused"] > executions / 10  # the damage is not all harmless
    assert found["peak"] < 2**30
    assert found["slowest"][0] < 10
