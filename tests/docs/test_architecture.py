"""docs/architecture.md tells of the code as it is: its drawing, its paths, its counts, its examples."""

import itertools
import re
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import leantrain
from core.test_rooms import FLOOR, FLOORS, HOUSE, imports, room
from leantrain.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
GUIDES = {"docs/architecture.md": PAGE, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text()}
PROSE = [("docs", "md"), ("results", "md"), *((top, "py") for top in ("src", "tests", "benchmarks", "tools"))]
PATH = r"[\w.*-]+(?:/[\w.*-]+)*(?:/|\.(?:py|md|yaml|toml|json))"


def section(title: str, page: str = PAGE) -> str:
    return re.findall(rf"^##+ {title}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)[0]


def blocks(title: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)


def files(text: str) -> set[str]:
    """The files of the library that ``text`` names, as ``loader/wrap.py``."""
    return {name for name in re.findall(rf"`({PATH})`", text) if (HOUSE / name).is_file()}


def drawn() -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {}
    for upper, lower in re.findall(r"^    (\w+) --> ([\w& ]+)$", section("The rooms"), re.MULTILINE):
        arrows.setdefault(upper, set()).update(lower.split(" & "))
    return arrows


def imported() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    arrows: dict[str, set[str]] = {}
    for name, others in imports().items():
        arrows.setdefault(room(name), set()).update({room(other) for other in others} - {room(name)})
    return arrows


def below(upper: str, arrows: dict[str, set[str]]) -> set[str]:
    """All that lies below ``upper``, however many arrows down."""
    rooms = set(arrows.get(upper, ()))
    return rooms.union(*(below(lower, arrows) for lower in rooms))


def test_the_drawing_shows_each_room_from_the_top_floor_down():
    rooms = re.findall(r'^    (\w+)\["', section("The rooms"), re.MULTILINE)
    assert sorted(rooms) == sorted(FLOOR)
    heights = [FLOOR[name] for name in rooms]
    assert heights == sorted(heights, reverse=True)
    assert FLOORS[heights[-1]] == ("rng", "utils")


def test_its_arrows_are_the_imports_that_no_other_arrows_imply():
    real = imported()
    needed = {
        upper: {lower for lower in lowers if not any(lower in below(other, real) for other in lowers if other != lower)}
        for upper, lowers in real.items()
        if lowers
    }
    assert len(needed) > 15
    assert drawn() == needed


def test_its_arrows_run_downwards():
    upwards = [(a, b) for a, lowers in drawn().items() for b in lowers if FLOOR[b] >= FLOOR[a]]
    assert not upwards


@pytest.mark.parametrize("page", GUIDES)
def test_every_path_that_it_names_is_there(page):
    """Or, where it ends in NAME, the folder for it; a room without a file yet has its place in the order."""
    paths = re.findall(rf"`({PATH})`", GUIDES[page])
    assert len(paths) > 5
    written = {"run.json", "results.json"}  # by the library, wherever the user says
    missing = []
    for path in {*paths} - written:
        folder = path.rpartition("/")[0] if "NAME" in path else path
        folder = folder.removesuffix("/NAME").rstrip("/")
        here = any((base / folder).exists() for base in (ROOT, HOUSE))
        if not here and folder.rpartition("/")[2] not in FLOOR:
            missing.append(path)
    assert not missing


def leads_somewhere(name: str) -> bool:
    """Whether ``name``, dotted, is a module of the library or in one."""
    parts, place = name.split(".")[1:], HOUSE
    while parts and ((place / parts[0]).is_dir() or (place / f"{parts[0]}.py").is_file()):
        place /= parts.pop(0)
    found: Any = import_module(".".join(["leantrain", *place.relative_to(HOUSE).parts]))
    for part in parts:
        found = getattr(found, part, None)
    return found is not None


def test_dotted_names_lead_somewhere():
    """In prose, in code, in docstrings."""
    strings = {"leantrain.digest", "leantrain.recording"}  # keys within a recording's files
    strings |= {"leantrain.nowhere", "leantrain.trained"}  # of tests
    places = [ROOT.glob("*.md"), *(ROOT.glob(f"{top}/**/*.{end}") for top, end in PROSE)]
    names = {
        (name, str(path.relative_to(ROOT)))
        for path in itertools.chain(*places)
        for name in re.findall(r"\bleantrain(?:\.\w+)+", path.read_text())
        if not name.endswith(".py") and name not in strings
    }
    assert len(names) > 500
    there = {name: leads_somewhere(name) for name, _ in names}
    assert not sorted((name, path) for name, path in names if not there[name])


def test_links_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text())]
    assert len(links) > 20
    assert not [(page, link) for page, link in links if not (page.parent / link).exists()]


class Trace:
    """Within, notes the library's files whose functions are called, in ``files``; of some, where ``seen`` says so."""

    def __init__(self, seen: Any = lambda frame: True) -> None:
        self.seen, self.files = seen, set()

    def __enter__(self) -> "Trace":
        self.before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self.before)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{HOUSE}/") and self.seen(frame):
            self.files.add(path.removeprefix(f"{HOUSE}/"))


def on_a_batch(selector: leantrain.Selector) -> set[str]:
    """The files that run from the request for the third batch of the second epoch to the end of ``reduce``."""
    torch.manual_seed(0)
    dataset = TensorDataset(torch.randn(400, 8), torch.arange(400) % 3)
    model = torch.nn.Linear(8, 3)
    loader = leantrain.wrap(
        DataLoader(dataset, batch_size=20, shuffle=True),
        selector,
        epochs=3,
        score=leantrain.scorer(model, F.cross_entropy),
    )
    trace = Trace()
    for epoch in range(2):
        batches = iter(loader)
        for number in range(3):
            if (epoch, number) == (1, 2):
                with trace:
                    x, y = next(batches)
                    loader.reduce(F.cross_entropy(model(x), y, reduction="none"))
            else:
                x, y = next(batches)
                loader.reduce(F.cross_entropy(model(x), y, reduction="none"))
    return trace.files


def test_the_path_of_a_batch():
    text = section("The path of a batch")
    planned, judged = on_a_batch(leantrain.InfoBatch()), on_a_batch(leantrain.Adonis())
    assert planned < files(text)
    assert judged - {"methods/adonis.py"} <= files(text)
    assert re.findall(r"(\d+) files|\(ADONIS\) (\d+)", text) == [(str(len(planned)), ""), ("", str(len(judged)))]
    assert len(planned) <= 10


def test_the_path_of_a_method_s_name(tmp_path, monkeypatch):
    from leantrain.cli import app
    from leantrain.methods.infobatch import InfoBatch
    from leantrain.train.session import Session

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    pytest.importorskip("lightning_fabric")  # imported before what is traced
    built = []
    monkeypatch.setattr(InfoBatch, "__post_init__", lambda self: built.append(self))
    monkeypatch.setattr(Session, "_step", stop)
    by_kind: dict[type, set[str]] = {str: set(), InfoBatch: set()}

    def seen(frame: FrameType) -> bool:
        code = frame.f_code
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = [frame.f_locals[name] for name in given if name in frame.f_locals]
        for kind, files_of_kind in by_kind.items():
            if any(isinstance(value, kind) and (kind is not str or value == "infobatch") for value in values):
                files_of_kind.add(code.co_filename.removeprefix(f"{HOUSE}/"))
        return True

    arguments = "train --limit 200 --epochs 1 --batch-size 20 --device cpu --method infobatch"
    with Trace(seen), pytest.raises(Stop):
        app.app([*arguments.split(), "--out", str(tmp_path / "run")], standalone_mode=False)
    text = section("The path of a method's name")
    # Besides, it is spelled out in checks, held against a checkpoint's, and names a random stream.
    name = by_kind[str] - {"utils/validation.py", "checkpoint/manager.py", "rng.py"}
    assert name | {"train/session.py", "loader/wrap.py"} <= files(text)
    assert {"train/session.py", "loader/wrap.py", "methods/infobatch.py"} <= by_kind[InfoBatch]
    assert f"through {len(name)} files" in text
    assert len(built) == 1
    assert len(name) + len(["the method's own", "session", "wrap"]) <= 9


def test_the_example_method_keeps_the_largest_losses(tmp_path, monkeypatch, capsys):
    known = dict(METHODS)
    space: dict[str, Any] = {"__name__": "architecture"}
    try:
        for number, block in enumerate(blocks("A method")):
            exec(compile(block, f"docs/architecture.md, method, block {number}", "exec"), space)
    finally:
        METHODS.clear()
        METHODS.update(known)
    # 5 of each 20, in whole batches of 20 over both epochs
    assert capsys.readouterr().out == "100 of 400 samples trained on\n"
    losses = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3, 0.6])
    loader = leantrain.wrap(
        DataLoader(TensorDataset(torch.arange(6)), batch_size=3),
        space["Hardest"](keep_ratio=0.4),
        score=lambda batch: losses[batch[0]],
        epochs=1,
    )
    assert [samples.tolist() for (samples,) in loader] == [[1, 2, 3], [5]]


def test_the_example_reader_reads(tmp_path):
    from leantrain.data import load
    from leantrain.data.load import _READERS

    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(6) % 2
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    np.savez(tmp_path / "test.npz", images=images[:2], labels=labels[:2])
    known = dict(_READERS)
    try:
        exec(compile(blocks("A reader")[0], "docs/architecture.md, reader", "exec"), {"__name__": "architecture"})
        data = load(f"npz:{tmp_path}")
    finally:
        _READERS.clear()
        _READERS.update(known)
    assert data.targets.tolist() == [0, 1, 0, 1, 0, 1]
    assert torch.equal(data.train[3][0], torch.from_numpy(images[3]))
    assert len(data.test) == 2
