"""The rooms of the library: what lies at its top, and that imports run downwards only, without a circle."""

import ast
from pathlib import Path

import leantrain

HOUSE = Path(leantrain.__file__).parent
# From the cellar up: a module imports of its own floor's rooms only its own, and of the floors below.
FLOORS = (
    ("rng", "utils"),
    ("schedule",),
    ("core", "solvers", "data"),
    ("tasks", "replay", "distributed"),
    ("scoring", "checkpoint"),
    ("loader", "embed"),
    ("methods", "integrations"),
    ("guard", "train", "estimation"),
    ("compare",),
    ("report",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(module: str) -> str:
    """``"loader"`` of ``"leantrain.loader.wrap"``, ``"__init__"`` of ``"leantrain"``."""
    return [*module.split("."), "__init__"][1]


def imports() -> dict[str, set[str]]:
    """Of each module, the modules of the library that it imports, within functions and for types too."""
    paths = {".".join(path.relative_to(HOUSE.parent).with_suffix("").parts): path for path in HOUSE.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                if (node.module or "").split(".")[0] == "leantrain":
                    named = {f"{node.module}.{alias.name}" for alias in node.names}
                    found[name] |= {whole if whole in modules else str(node.module) for whole in named}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name.split(".")[0] == "leantrain"}
    return found


def test_the_top_level_holds_rooms():
    top = {path.name for path in HOUSE.iterdir() if path.name != "__pycache__"}
    files = {name for name in top if (HOUSE / name).is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed", "rng.py", "schedule.py"}
    assert top - files <= FLOOR.keys()


def test_imports_run_downwards():
    upwards = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in sorted(others)
        if room(name) != room(other) and FLOOR[room(other)] >= FLOOR[room(name)]
    ]
    assert not upwards


def test_there_is_no_circle_of_imports():
    left = {name: others - {name} for name, others in imports().items()}
    assert len(left) > 100
    while ready := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in ready}
    # What is left imports one another, or what does.
    assert not left


def test_no_file_is_too_long_to_be_read_at_once():
    lines = {str(path.relative_to(HOUSE)): len(path.read_text().splitlines()) for path in HOUSE.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > 350} == {}
