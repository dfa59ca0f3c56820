"""The Python of README and CONTRIBUTING runs; every method has its card; the README's table stands in a result file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leantrain.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/losses.md", "docs/partial-forward.md"])
def test_its_python_runs(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what it writes lies there
    found = blocks(name)
    assert found
    space: dict = {"__name__": "readme"}
    for number, block in enumerate(found):
        exec(compile(block, f"{name}, block {number}", "exec"), space)


def test_the_readme_s_first_loop_needs_torch_and_numpy_only():
    """In a process that can import the standard library, leantrain, torch, numpy and what these need, nothing else."""
    block = """
import sys
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement

given, seek = set(), ["torch", "numpy"]
while seek:
    name = seek.pop().lower().replace("_", "-")
    if name not in given:
        given.add(name)
        needed = [Requirement(text) for text in requires(name) or []]
        seek += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
for module, distributions in packages_distributions().items():
    ours = module in {"leantrain", "_distutils_hack"}
    if not ours and not given & {name.lower().replace("_", "-") for name in distributions}:
        sys.modules[module] = None  # an import of it fails
for name in ("sklearn", "pyarrow", "pydantic", "PIL"):
    assert sys.modules[name] is None
"""
    code = "\n".join([block, blocks("README.md")[0], "assert 2000 < loader.stats.trained < epochs * len(dataset)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "samples trained on" in done.stdout


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # of Lightning's Trainer
def test_the_python_for_several_ranks_runs_on_two(tmp_path, monkeypatch):
    from distributed.processes import on_ranks, started_by_torchrun
    from leantrain.utils.torchvision_compat import import_torchvision

    import_torchvision()
    for framework in ("lightning_fabric", "accelerate", "pytorch_lightning"):
        pytest.importorskip(framework)  # imported once, before the ranks part
    monkeypatch.chdir(tmp_path)
    own, *frameworks = blocks("docs/ranks.md")
    begin = 'dist.init_process_group("gloo")'
    assert own.count(begin) == 1
    assert len(frameworks) == 3

    def rank():
        started_by_torchrun()
        space: dict = {"__name__": "ranks"}
        trained = []
        for number, block in enumerate([own.replace(begin, ""), *frameworks]):  # the ranks have their group
            exec(compile(block, f"docs/ranks.md, block {number}", "exec"), space)
            loader = space["digits"].loader if "digits" in space else space["loader"]
            trained.append((loader.epoch, loader.stats.trained, loader.ledger.trained.tolist()))
        return trained

    first, second = on_ranks(2, rank)
    assert first == second
    epochs, trained, _ = zip(*first, strict=True)
    assert epochs == (3, 1, 1, 2)
    assert 1797 < trained[0] < 3 * 1797
    assert trained[1] == trained[2] == 1797
    assert first[1][2] == first[2][2] == [1] * 1797  # every sample once
    assert 1797 < trained[3] <= 2 * 1797


def test_the_example_method_skips_what_is_learnt():
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import leantrain

    space: dict = {"__name__": "contributing"}
    exec(blocks("CONTRIBUTING.md")[0], space)
    losses = torch.tensor([0.5, 0.001, 0.2, 0.0])
    loader = leantrain.wrap(DataLoader(TensorDataset(torch.arange(4)), batch_size=2), space["DropLearnt"]())
    for (samples,) in loader:
        loader.reduce(losses[samples])
    assert [i for (samples,) in loader for i in samples.tolist()] == [0, 2]


def test_with_its_one_line_the_example_method_can_be_compared(monkeypatch):
    from leantrain import data
    from leantrain.train.config import TrainConfig
    from leantrain.train.trainer import train

    space: dict = {"__name__": "contributing"}
    exec(blocks("CONTRIBUTING.md")[0], space)
    monkeypatch.setitem(METHODS, "drop-learnt", space["DropLearnt"])
    digits = data.load("digits", limit=200)
    settings = {"drop-learnt": {"threshold": 0.5}}
    config = TrainConfig(limit=200, epochs=6, batch_size=20, device="cpu", settings=settings)
    facts = train(config, digits, "drop-learnt", seed=0).facts
    assert facts.settings == {"threshold": 0.5}
    assert 200 < facts.backward_samples < 6 * 200


def test_the_diff_is_what_the_readme_runs():
    """Both lines that the diff adds stand in the runnable code in the same form."""
    text = (ROOT / "README.md").read_text()
    added = [line[1:].strip() for line in re.findall(r"^\+.*", text, re.MULTILINE)]
    code = "\n".join(blocks("README.md"))
    assert len(added) == 2
    for call in ("leantrain.wrap(", "loader.reduce(F.cross_entropy(model("):
        assert any(call in line for line in added)
        assert call in code


CARDS = sorted((ROOT / "docs" / "methods").glob("*.md"))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_one_card(name):
    cards = [card for card in CARDS if f"`{name}` (`{METHODS[name].__name__}`)" in card.read_text()]
    assert len(cards) == 1


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_a_card_says_what_a_user_asks(card):
    text = card.read_text()
    for heading in ("**Cost:**", "**Needs:**", "**Source:**"):
        assert heading in text
    for name in re.findall(r"`([\w-]+)` \(`\w+`\)", re.findall(r"\*\*Names?:\*\*.*", text)[0]):
        assert name in METHODS


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_a_card_s_measurements_stand_in_their_result_file(card):
    from runpy import run_path

    text = card.read_text()
    if card.stem not in ("full", "replay"):  # the baseline; what is replayed is another method's choice
        assert ("<!-- measured: results/" in text) != ("- **Measured:** not yet" in text)
    assert run_path(str(ROOT / "tools" / "tables.py"))["measured"](text) == text


def test_the_tables_of_the_readme_are_up_to_date():
    from runpy import run_path

    text = (ROOT / "README.md").read_text()
    assert run_path(str(ROOT / "tools" / "tables.py"))["filled"](text) == text


def test_the_table_of_the_readme_stands_in_its_result_file():
    text = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- table: (\S+) -->\n(.*?)<!-- end of table -->", text, re.DOTALL)
    assert found
    results = json.loads((ROOT / found[1] / "results.json").read_text())
    rows = {row["method"]: row for row in results["summary"]}
    lines = [line for line in found[2].splitlines() if line.startswith("| `")]
    assert len(lines) == len(rows) > 5
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        row = rows[cells[0].strip("`")]
        assert cells[1].startswith(f"{100 * row['accuracy']:.2f}")
        assert cells[2] == f"{row['accuracy_drop_pp']:+.2f}"
        assert cells[3] == f"{row['boost']:.2f}×"
        assert cells[4] == f"{row['boost_with_preprocessing']:.2f}×"
        if row["verdict"]:
            assert cells[5] == f"{100 * row['control_accuracy']:.2f}"
            assert cells[6].startswith(f"{row['control_accuracy_pp_ahead']:+.2f}")
            assert cells[7] == row["verdict"]
