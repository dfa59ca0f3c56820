"""Settings of every test: one thread, a seeded torch that is put back afterwards, reproducible hypothesis."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start, too

import numpy.random  # noqa: F401 - lazy in NumPy 2; importing it in a forked worker can fail on Python 3.11
import pytest
import torch
from hypothesis import settings

HERE = Path(__file__).parent
settings.register_profile("leantrain", deadline=None, database=None, derandomize=True, max_examples=60)
settings.load_profile("leantrain")


def pytest_configure(config: pytest.Config) -> None:
    # Python 3.12 warns of every fork of a process with threads; DataLoader workers are forks, torch has threads.
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of ``-n auto``: one for each core that this process may use, but four at most; each imports everything anew.

    On one core this process runs the tests itself.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if cores > 1 else 0


FORKING = ("faults/test_unreadable.py", "loader/", "methods/", "distributed/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that fork come first: what a fork takes grows with what its parent holds, and that with the tests."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(HERE).as_posix()
        return next((at for at, start in enumerate(FORKING) if path.startswith(start)), len(FORKING))

    items.sort(key=place)


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


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """The network ``small`` with one block in place of three: a training shows the same in half the time."""
    from leantrain.tasks.image_classification import models, networks

    def small(classes: int, channels: int, width: int = 16) -> torch.nn.Module:
        return networks.ResNet(networks.BasicBlock, (1,), (4 * width,), (4,), (width, 1), classes, channels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models._OWN, "small", small)
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    """Reports without figures, which take longer than the trainings that these tests report on."""
    from leantrain.report.figures import plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "svg", lambda name, figure: "<svg></svg>")
        yield
