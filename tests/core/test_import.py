"""``import leantrain`` is light and changes nothing."""

import subprocess
import sys
import textwrap

import leantrain


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_needs_torch_numpy_and_the_standard_library_only() -> None:
    found = run("""
        import sys
        import numpy, torch, torch.utils.data, torch.optim.lr_scheduler
        before = set(sys.modules)
        import leantrain
        new = {name.split(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - set(sys.stdlib_module_names) - {"torch", "numpy"}))
    """)
    assert found == "['leantrain']"


def test_heavy_parts_are_left_out() -> None:
    found = run("""
        import sys, leantrain
        heavy = ["torchvision", "matplotlib", "pandas", "pyarrow", "lightning_fabric", "sklearn", "timm", "pydantic",
                 "safetensors", "PIL", "leantrain.train", "leantrain.data", "leantrain.report", "leantrain.tasks",
                 "leantrain.cli"]
        print([name for name in heavy if name in sys.modules])
    """)
    assert found == "[]"


def test_changes_nothing_global() -> None:
    found = run("""
        import random, sys, warnings
        import numpy, torch
        from torch.utils.data import DataLoader
        from torch.utils.data import dataloader
        def state():
            return [
                torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()), numpy.geterr(),
                torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), warnings.filters[:],
                dict(vars(DataLoader)), dict(vars(dataloader._BaseDataLoaderIter)), sys.getrecursionlimit(),
                torch.are_deterministic_algorithms_enabled(), torch.multiprocessing.get_sharing_strategy(),
            ]
        before = state()
        import leantrain
        print(before == state())
    """)
    assert found == "True"


def test_every_public_name_exists() -> None:
    assert len(leantrain.__all__) > 15
    assert len(set(leantrain.__all__)) == len(leantrain.__all__)
    assert all(hasattr(leantrain, name) for name in leantrain.__all__)
