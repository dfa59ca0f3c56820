"""``import leantrain`` is light and changes nothing."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

import leantrain


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What an import of leantrain brings into a process that has torch and NumPy, and what it changes there."""
    code = """
        import json, random, sys, warnings
        import numpy, torch, torch.optim.lr_scheduler
        from torch.utils.data import DataLoader
        from torch.utils.data import dataloader
        def state():
            return [
                torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()), numpy.geterr(),
                torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), warnings.filters[:],
                dict(vars(DataLoader)), dict(vars(dataloader._BaseDataLoaderIter)), sys.getrecursionlimit(),
                torch.are_deterministic_algorithms_enabled(), torch.multiprocessing.get_sharing_strategy(),
            ]
        before = state()  # which loads numpy.random
        modules = set(sys.modules)
        import leantrain
        print(json.dumps({"new": sorted(set(sys.modules) - modules), "all": [*sys.modules], "same": before == state()}))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_needs_torch_numpy_and_the_standard_library_only(found: dict[str, Any]) -> None:
    new = {name.split(".")[0] for name in found["new"]}
    assert new - set(sys.stdlib_module_names) - {"torch", "numpy"} == {"leantrain"}


@pytest.mark.parametrize(
    "heavy",
    [
        "torchvision", "matplotlib", "pandas", "pyarrow", "lightning_fabric", "sklearn", "timm", "pydantic",
        "safetensors", "PIL", "leantrain.train", "leantrain.data", "leantrain.report", "leantrain.tasks",
        "leantrain.cli",
    ],
)  # fmt: skip
def test_heavy_parts_are_left_out(heavy: str, found: dict[str, Any]) -> None:
    assert heavy not in found["all"]


def test_changes_nothing_global(found: dict[str, Any]) -> None:
    assert found["same"]


def test_every_public_name_exists() -> None:
    assert len(leantrain.__all__) > 15
    assert len(set(leantrain.__all__)) == len(leantrain.__all__)
    assert all(hasattr(leantrain, name) for name in leantrain.__all__)
