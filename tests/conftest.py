"""Settings of every test: one thread, a seeded torch that is put back afterwards, reproducible hypothesis."""

import gc
import os
from collections.abc import Iterator

import numpy.random  # noqa: F401 - lazy in NumPy 2; importing it in a forked worker can fail on Python 3.11
import pytest
import torch
from hypothesis import settings

settings.register_profile("leantrain", deadline=None, database=None, derandomize=True, max_examples=60)
settings.load_profile("leantrain")


def pytest_configure(config: pytest.Config) -> None:
    # Python 3.12 warns of every fork of a process with threads; DataLoader workers are forks, torch has threads.
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of ``-n auto``: one for each core that this process may use, but four at most; each imports everything anew."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


def pytest_collection_finish() -> None:
    """What the imports made stays: no later collection needs to look at it, and no forked child copies it by that."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        yield
