"""A checkpoint comes back bit by bit, is there whole or not at all, and a damaged or hostile one does no harm."""

import errno
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from leantrain.checkpoint import format
from leantrain.checkpoint.format import Checkpoint, load_latest, remove, save
from leantrain.checkpoint.tree_json import DEPTH, DTYPES, Tree

FILES = ("tensors.safetensors", "state.json", "manifest.json")


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda place: None)
        yield


def load(folder: Path) -> Checkpoint:
    found = load_latest(folder)
    assert found is not None
    return found


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state_of(step: int) -> Tree:
    """A state that tells its step in a tensor and in a plain value, and is large enough to be cut in the middle."""
    return {"weight": torch.full((5000,), step), "step": step, "pair": (step, [None, 0.5])}


def same(one: Tree, other: Tree) -> bool:
    """Equal in type, order and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(bits(one), bits(other))
    if isinstance(one, dict):
        keys = [(type(key), key) for key in one]
        return keys == [(type(key), key) for key in other] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or struct.pack("d", one) == struct.pack("d", other)
    return one == other


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of any dtype and shape, any bits (NaN of any kind), now and then transposed, strided or a slice."""
    dtype = getattr(torch, draw(st.sampled_from(DTYPES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if dtype is torch.bool:
        values = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=torch.bool)
    else:
        size = torch.empty((), dtype=dtype).element_size()
        content = draw(st.binary(min_size=count * size, max_size=count * size))
        values = torch.tensor(list(content), dtype=torch.uint8).view(dtype) if count else torch.empty(0, dtype=dtype)
    values = values.reshape(shape)
    layout = draw(st.sampled_from(["dense", "transposed", "sliced"]))
    if layout == "transposed" and values.ndim > 1:
        return values.transpose(0, 1)
    return values[1:] if layout == "sliced" and values.ndim and len(values) else values


leaves = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | tensors()
)  # fmt: skip
keys = st.text(max_size=3) | st.integers() | st.sampled_from(["$int", "$tuple", "$", "__metadata__", "a/b", "\ud800"])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("examples", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_any_tree_comes_back_as_it_was(examples: int) -> None:
    settings(max_examples=examples)(comes_back)()


@given(state=trees, step=st.integers(0, 10**12))
def comes_back(state: Tree, step: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        facts = {"seed": step, "pair": (1, math.inf), "7": {7: None}}
        path = save(Path(name), state, step=step, facts=facts)
        found = load(Path(name))
    assert same(found.state, state)
    assert (found.step, found.path) == (step, path)
    assert found.facts == facts


def test_every_dtype_is_one_that_torch_knows() -> None:
    assert len({getattr(torch, name) for name in DTYPES}) == len(DTYPES) == 19


@pytest.mark.parametrize(
    "value",
    [
        10**5000, -(16**9999), 2**63, -(2**63), -0.0, 5e-324, 1e308, float("-inf"), "", "\ud83d" + "\ude00",
        "\U0001f600", "\x00\u2028", {}, [], (), {"": {}}, {1: {"1": 1}}, {"$tensor": "0"},
        ({"$dict": []},), [[[(), {}]]],
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else f"int of {value.bit_length()} bits",
)  # fmt: skip
def test_odd_values_come_back_as_they_were(tmp_path: Path, value: Tree) -> None:
    save(tmp_path, value, step=0)
    assert same(load(tmp_path).state, value)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_optimizers_and_generators_go_on_bit_by_bit(tmp_path: Path, kind: str) -> None:
    make: Callable[..., torch.optim.Optimizer] = {
        "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True),
        "adam": lambda parameters: torch.optim.Adam(parameters, 0.01, amsgrad=True),
        "adamw": lambda parameters: torch.optim.AdamW(parameters, torch.tensor(0.01)),
    }[kind]
    model, generator = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), torch.Generator().manual_seed(3)
    optimizer = make(model.parameters())

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 1, 5, 5, generator=generator)).square().sum().backward()
            optimizer.step()

    train(model, optimizer, generator)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": generator.get_state()}
    save(tmp_path, state, step=3)
    found = load(tmp_path).state
    assert same(found["optimizer"], optimizer.state_dict())
    assert same(found["random"], generator.get_state())
    train(model, optimizer, generator)

    other, again = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), torch.Generator()
    resumed = make(other.parameters())
    other.load_state_dict(found["model"])
    resumed.load_state_dict(found["optimizer"])
    again.set_state(found["random"])
    train(other, resumed, again)
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(resumed.state_dict(), optimizer.state_dict())


def test_tensors_that_share_memory_come_back_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"base": base, "again": base, "row": base[1], "column": base[:, 2], "all": base.T, "none": base[:0]}
    state["parameter"] = nn.Parameter(base)
    state["conjugate"] = torch.view_as_complex(torch.arange(4.0).reshape(2, 2)).conj()
    state["negative"] = state["conjugate"].imag
    state["spread"] = torch.ones(1).expand(1000)
    save(tmp_path, state, step=1)
    found = load(tmp_path).state
    state["parameter"] = base
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].is_contiguous()
    found["base"].zero_()
    assert torch.equal(found["again"], base)


def test_what_was_loaded_outlives_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, state_of(1), step=1)
    found = load(tmp_path)
    with open(path / "tensors.safetensors", "r+b") as file:
        file.write(b"\xff" * 10000)
    shutil.rmtree(tmp_path)
    assert same(found.state, state_of(1))


def test_an_ordered_dict_comes_back_as_a_dict(tmp_path: Path) -> None:
    save(tmp_path, OrderedDict(b=1, a=2), step=1)
    assert same(load(tmp_path).state, {"b": 1, "a": 2})


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (b"bytes", TypeError, "bytes"),
        ({1, 2}, TypeError, "set"),
        (np.float64(1), TypeError, "numpy.float64"),
        (np.arange(2), TypeError, "numpy.ndarray"),
        (Pair(1, 2), TypeError, "Pair"),
        (Counter("a"), TypeError, "Counter"),
        (len, TypeError, "builtin_function"),
        (nn.Linear(1, 1), TypeError, "Linear"),
        ({True: 1}, TypeError, "has the key True"),
        ({1.5: 1}, TypeError, "has the key 1.5"),
        ({(1, 2): 1}, TypeError, "has the key"),
        (torch.eye(2).to_sparse(), TypeError, "sparse"),
        (torch.empty(2, device="meta"), TypeError, "meta"),
        (torch.zeros(2, dtype=torch.complex128), TypeError, "complex128"),
        (_loop(), ValueError, "holds itself"),
        ("a" * (2**24), ValueError, "16 MiB"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_kept_is_named_with_its_place(
    tmp_path: Path, value: Tree, error: type[Exception], words: str
) -> None:
    save(tmp_path, 1, step=1)
    with pytest.raises(error, match=words) as caught:
        save(tmp_path, {"optimizer": [{}, {"state": {0: value}}]}, step=2)
    assert words == "16 MiB" or "state['optimizer'][1]['state'][0]" in str(caught.value)
    assert steps(tmp_path) == ["step-000000001"]


def test_facts_hold_no_tensors_and_are_a_dict(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"facts\['x'\] is a torch.Tensor"):
        save(tmp_path, 1, step=1, facts={"x": torch.ones(1)})
    with pytest.raises(TypeError, match="must be a dict, not list"):
        save(tmp_path, 1, step=1, facts=[])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("bad", [{"step": -1}, {"step": 1.0}, {"step": True}, {"step": 1, "keep": 0}])
def test_bad_steps_and_counts(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="must be"):
        save(tmp_path, 1, **bad)
    assert not list(tmp_path.iterdir())


def test_there_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None
    (tmp_path / "step-12").mkdir()
    (tmp_path / "step-000000001").write_text("a file")
    (tmp_path / ".step-000000001.1.new").mkdir()
    (tmp_path / "step-000000002").symlink_to(tmp_path / "step-12")
    assert load_latest(tmp_path) is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_keeps_the_newest(tmp_path: Path, keep: int) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    numbers = [0, 5, 999_999_999, 1_000_000_000, 10**20]  # names of unequal length are sorted as numbers
    for count, step in enumerate(numbers, start=1):
        path = save(tmp_path, state_of(step % 1000), step=step, keep=keep)
        assert path == tmp_path / f"step-{step:09d}"
        kept = {f"step-{step:09d}" for step in numbers[max(0, count - keep) : count]}
        assert set(steps(tmp_path)) == kept | {"notes.txt"}
        assert load(tmp_path).step == step


@pytest.mark.parametrize("keep", [1, 2])
def test_the_same_step_again_replaces(tmp_path: Path, keep: int) -> None:
    save(tmp_path, "before", step=1)
    for word in ("first", "second", "third"):
        save(tmp_path, word, step=7, keep=keep)
        assert load(tmp_path).state == word
    assert steps(tmp_path) == ["step-000000001", "step-000000007"][-keep:]


def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    for pid in (dead.pid, os.getpid(), alive):
        for name in (f".step-000000001.{pid}.new", f".step-000000003.old.{pid}.gone"):
            (tmp_path / name / "deep").mkdir(parents=True)
    (tmp_path / ".step-000000001.mine").mkdir()
    save(tmp_path, 1, step=1)
    mine = [f".step-000000001.{alive}.new", ".step-000000001.mine", f".step-000000003.old.{alive}.gone"]
    assert steps(tmp_path) == sorted([*mine, "step-000000001"])


def test_check_is_asked_with_the_facts(tmp_path: Path) -> None:
    save(tmp_path, 1, step=1, facts={"seed": 0})

    def check(facts: dict[str, Any]) -> None:
        raise LookupError(f"another seed: {facts['seed']}")

    with pytest.raises(LookupError, match="another seed: 0"):
        load_latest(tmp_path, check=check)


# Damage


def damage(folder: Path, words: str) -> Checkpoint:
    with pytest.warns(UserWarning, match=words) as caught:
        found = load(folder)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert str(folder / "step-000000003") in text
    assert f"The checkpoint before it is used: {folder / 'step-000000002'}" in text
    assert caught[0].filename == __file__
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    state = {"weight": torch.arange(20.0), "count": torch.tensor(3), "step": 3, "rate": (0.1, None)}
    for step in (2, 3):
        save(folder, state | {"step": step}, step=step, facts={"seed": 0, "name": "ids"})
    return folder


@pytest.mark.parametrize("name", FILES)
def test_any_changed_byte_is_found(three: Path, name: str) -> None:
    path = three / "step-000000003" / name
    content = path.read_bytes()
    draws = random.Random(0)
    places = range(len(content))
    try:
        for place in places:
            changed = bytearray(content)
            changed[place] ^= draws.randrange(1, 256)
            path.write_bytes(changed)
            assert damage(three, name).step == 2
    finally:
        path.write_bytes(content)
    assert load(three).step == 3


@pytest.mark.parametrize("name", FILES)
def test_a_cut_longer_or_missing_file_is_found(three: Path, name: str) -> None:
    path = three / "step-000000003" / name
    content = path.read_bytes()
    try:
        for other in [*(content[:length] for length in range(0, len(content), 7)), content[:-1], content + b"\0"]:
            path.write_bytes(other)
            assert damage(three, name).step == 2
        path.unlink()
        assert damage(three, f"{name} is missing").step == 2
        path.mkdir()
        assert damage(three, f"{name} is missing").step == 2
        path.rmdir()
        os.mkfifo(path)  # reading one would wait for ever
        assert damage(three, f"{name} is missing").step == 2
        path.unlink()
    finally:
        path.write_bytes(content)
    assert load(three).step == 3


def test_swapped_checkpoints_are_found(tmp_path: Path) -> None:
    for step in (2, 3):
        save(tmp_path, step, step=step)
    shutil.rmtree(tmp_path / "step-000000003")
    shutil.copytree(tmp_path / "step-000000002", tmp_path / "step-000000003")
    assert damage(tmp_path, "is of step 2").state == 2


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    for step in (2, 3):
        (save(tmp_path, step, step=step) / "state.json").write_bytes(b"4")
    with pytest.raises(ValueError, match="No checkpoint is whole") as caught:
        load_latest(tmp_path)
    assert all(part in str(caught.value) for part in ("step-000000002", "step-000000003", f"empty {tmp_path}"))


def test_a_run_that_goes_back_past_a_damaged_one_replaces_it(tmp_path: Path) -> None:
    for step in (10, 20):
        save(tmp_path, step, step=step, keep=1 + (step == 20))
    (tmp_path / "step-000000020" / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="step-000000020 is damaged"):
        assert load(tmp_path).step == 10
    save(tmp_path, 15, step=15, keep=1)
    assert steps(tmp_path) == ["step-000000015"]


def test_a_run_that_starts_anew_beside_later_ones_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 20, step=20)
    with pytest.raises(ValueError, match="step-000000020 is of a later step than 15"):
        save(tmp_path, 15, step=15)
    assert steps(tmp_path) == ["step-000000020"]


# Hostile files: sealed as ``save`` seals them, so that nothing but their content speaks against them

NO_TENSORS = b"\x02" + b"\0" * 7 + b"{}"


def forge(folder: Path, *, state: bytes = b"null", tensors: bytes = NO_TENSORS, **changes: Any) -> Path:
    path = folder / "step-000000003"
    path.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, content in (("tensors.safetensors", tensors), ("state.json", state)):
        (path / name).write_bytes(content)
        files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"version": 1, "step": 3, "facts": {}, "files": files} | changes
    (path / "manifest.json").write_bytes(sealed(manifest))
    return path


def sealed(manifest: Any) -> bytes:
    def dump(content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()

    return dump(manifest | {"sha256": hashlib.sha256(dump(manifest)).hexdigest()})


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match="No checkpoint is whole") as caught:
        load_latest(folder)
    assert type(caught.value) is ValueError
    return str(caught.value)


def test_a_forged_one_without_fault_loads(tmp_path: Path) -> None:
    forge(tmp_path, state=b'{"a":[1,{"$int":"0x10"},{"$tuple":[]}]}', facts={"b": 1})
    found = load(tmp_path)
    assert found.state == {"a": [1, 16, ()]}
    assert found.facts == {"b": 1}


DEEP = DEPTH + 2


@pytest.mark.parametrize(
    "state",
    [
        b"", b"nul", b"{", b"\xff\xfe", b"NaN,", b"1" * 5000, b"[" * 10**6, b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * 10**6, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b'{"$tuple":[' * DEEP + b"]}" * DEEP,
        b'{"$dict":[[0,' * DEEP + b"1" + b"]]}" * DEEP, b'{"$dict":[[' * DEEP + b"1" + b",1]]}" * DEEP,
        b'{"$tensor":"0"}', b'{"$tensor":0}', b'{"$tensor":[]}', b'{"$tensor":"../../etc/passwd"}',
        b'{"$int":5}', b'{"$int":"ten"}', b'{"$int":""}', b'{"$float":"1"}', b'{"$float":[]}', b'{"$float":1.5}',
        b'{"$tuple":"abc"}', b'{"$tuple":{}}', b'{"$dict":{}}', b'{"$dict":["ab"]}', b'{"$dict":[[1,2,3]]}',
        b'{"$dict":[[1,1],[1,2]]}', b'{"$dict":[[true,1]]}', b'{"$dict":[[1.5,1]]}', b'{"$dict":[[[],1]]}',
        b'{"$dict":[[{"$tensor":"0"},1]]}', b'{"$call":"os.system"}', b'{"$int":"0x1","a":1}', b'{"$":1}',
        b'{"__class__":"os.system","$reduce":[]}', b"null" + b" " * 2**24,
    ],
    ids=lambda state: ascii(state[:24]),
)  # fmt: skip
def test_a_hostile_state_is_refused(tmp_path: Path, state: bytes) -> None:
    forge(tmp_path, state=state)
    assert ("16 MiB" in refused(tmp_path)) == (len(state) > 2**24)


def header(content: Any, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[Any], end: int) -> dict[str, Any]:
    return {"0": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


@pytest.mark.parametrize(
    "tensors",
    [
        b"", b"\0" * 8, b"\xff" * 100, header(b"nul"), header(b"[" * 10**5), header(b'{"0":' * 10**5), header({})[:-1],
        header({}, b"more"), header(entry("F32", [1], 400), b"\0" * 4), header(entry("F32", [-1], 4), b"\0" * 4),
        header(entry("F32", [2**64 - 1, 0], 0)), header(entry("F32", [2**40, 2**40], 4), b"\0" * 4),
        header(entry("F33", [1], 4), b"\0" * 4), header(entry("F32", ["1"], 4), b"\0" * 4),
        header({"0": {"dtype": "F32"}}), header({"../0": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"\0"),
        header(entry("U8", [1], 1) | {"1": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"\0"),
    ],
    ids=lambda tensors: ascii(tensors[8:40]),
)  # fmt: skip
def test_hostile_tensors_are_refused(tmp_path: Path, tensors: bytes) -> None:
    forge(tmp_path, state=b'{"$tensor":"0"}', tensors=tensors)
    refused(tmp_path)


def test_tensors_and_references_belong_together(tmp_path: Path) -> None:
    one = header(entry("U8", [1], 1), b"\x07")
    forge(tmp_path, state=b'[{"$tensor":"0"},{"$tensor":"0"}]', tensors=one)
    assert "stands for nothing" in refused(tmp_path)
    forge(tmp_path, state=b"[]", tensors=one)
    assert "leaves out 1 tensors" in refused(tmp_path)
    forge(tmp_path, state=b'[{"$tensor":"0"}]', tensors=one, facts={"a": {"$tensor": "0"}})
    refused(tmp_path)
    forge(tmp_path, state=b'[{"$tensor":"0"}]', tensors=one)
    assert load(tmp_path).state == [torch.tensor([7])]


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "3"}, {"step": 3.0}, {"step": True}, {"step": 4}, {"step": None}, {"step": -3}, {"step": [3]},
        {"facts": None}, {"facts": []}, {"facts": {"$tuple": []}}, {"facts": {"$what": 1}}, {"more": 1},
        {"files": None}, {"files": []}, {"files": {}}, {"files": list(FILES)}, {"files": 7}, {"files": "state.json"},
        {"files": {"../state.json": {}}}, {"files": dict.fromkeys(FILES)},
        {"files": {name: {"size": "1", "sha256": 1} for name in FILES}},
        {"files": {name: {"size": 10**400, "sha256": ""} for name in FILES}},
    ],
    ids=str,
)  # fmt: skip
def test_a_hostile_manifest_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    forge(tmp_path, **changes)
    refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{}", b"[" * 10**6, b'{"sha256":"0"}', b"\xff", b"1" * 5000, b"{}" + b" " * 2**24],
    ids=lambda text: ascii(text[:20]),
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    (forge(tmp_path) / "manifest.json").write_bytes(text)
    assert ("16 MiB" in refused(tmp_path)) == (len(text) > 2**24)


def test_names_in_a_manifest_open_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forge(tmp_path / "run")
    files = json.loads((path / "manifest.json").read_bytes())["files"]
    (tmp_path / "secret").write_bytes(b"null")
    forge(tmp_path / "run", files=files | {"../../secret": files["state.json"], str(tmp_path / "secret"): {"size": 4}})
    opened: list[str] = []
    measure = format._measure
    monkeypatch.setattr(format, "_measure", lambda place: opened.append(place.name) or measure(place))
    load(tmp_path / "run")
    assert opened == ["tensors.safetensors", "state.json"]


def test_another_format_is_an_error_and_stays(tmp_path: Path) -> None:
    save(tmp_path, 2, step=2)
    forge(tmp_path, version=2, files={"other": 1})
    with pytest.raises(ValueError, match="is of format 2, and this leantrain reads format 1"):
        load_latest(tmp_path)
    with pytest.raises(ValueError, match="is of format 2"):
        save(tmp_path, 2, step=2)
    assert steps(tmp_path) == ["step-000000002", "step-000000003"]


# Stopped in the middle


class Killed(BaseException):
    """Not an Exception: nothing may handle it."""


def cut_text(path: Path, data: bytes) -> None:
    path.write_text(data[: len(data) // 2].decode())


def cut_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    path.write_text("half")


def cut_removal(path: Path, **_: Any) -> None:
    (path / "manifest.json").unlink(missing_ok=True)


REMOVE = shutil.rmtree
HALVES = {Path.write_bytes: cut_text, safetensors.torch.save_file: cut_tensors, REMOVE: cut_removal}
CALLS: list[tuple[Any, str]] = [
    (os, "replace"), (os, "fsync"), (os, "open"), (Path, "mkdir"), (Path, "write_bytes"), (Path, "glob"),
    (shutil, "rmtree"), (safetensors.torch, "save_file"), (hashlib, "file_digest"),
]  # fmt: skip


class Breaker:
    """Counts what ``save`` asks of the file system and raises at the ``at``-th; when killed, at all that follow."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error, self.count = at, error, 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if function is REMOVE and not isinstance(self.error, Killed):
                return function(*args, **kwargs)  # as ``save`` calls it, it swallows errors
            self.count += 1
            if self.count == self.at and function in HALVES:
                HALVES[function](*args, **kwargs)
            if self.count == self.at or (self.count > self.at and isinstance(self.error, Killed)):
                raise self.error
            return function(*args, **kwargs)

        return wrapped


@contextmanager
def breaking(at: int, error: BaseException) -> Iterator[Breaker]:
    breaker = Breaker(at, error)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, breaker(getattr(owner, name)))
        yield breaker


def attempt(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except (Killed, OSError) as error:
        return error
    return None


def prepare(folder: Path, again: bool) -> int:
    """Two checkpoints; the step to save next: a new one, or that of the newest."""
    for step in (1, 2):
        save(folder, state_of(step), step=step)
    return 2 if again else 3


ERRORS = {
    "killed": Killed(),
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "broken": OSError(errno.EIO, "Input/output error"),
}
QUICK = [("killed", 1, False), ("killed", 1, True), ("killed", 2, False), ("full", 1, True), ("full", 2, False)]


@pytest.mark.parametrize(
    ("kind", "keep", "again"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(ERRORS, (1, 2), (False, True))
    ],
)
def test_stopped_at_any_call_a_whole_one_is_there(tmp_path: Path, kind: str, keep: int, again: bool) -> None:
    error = ERRORS[kind]
    with breaking(10**9, Killed()) as counted:
        save(tmp_path / "count", state_of(0), step=prepare(tmp_path / "count", again), keep=keep)
    assert counted.count > 30
    seen = set()
    for at in range(1, counted.count + 1):
        folder = tmp_path / str(at)
        step = prepare(folder, again)
        with breaking(at, error):
            raised = attempt(partial(save, folder, state_of(9), step=step, keep=keep))
        if isinstance(raised, OSError):
            assert raised.errno == error.args[0]
            assert str(folder / f"step-{step:09d}") in str(raised)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # not even a warning: nothing torn stands under the name of a checkpoint
            found = load(folder)
        assert same(found.state, state_of(9)) or same(found.state, state_of(2))
        assert found.step == (step if same(found.state, state_of(9)) else 2)
        seen.add(found.state["step"])
        if not isinstance(error, Killed):
            assert not [name for name in steps(folder) if name.endswith(".new")]
        save(folder, state_of(5), step=5, keep=keep)  # and the next one clears up
        assert same(load(folder).state, state_of(5))
        assert len(steps(folder)) == keep
    assert seen == {2, 9}


@pytest.mark.parametrize("stride", [7, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_twice_while_the_same_step_is_replaced(tmp_path: Path, stride: int) -> None:
    """The first kill leaves ``.old`` beside the new one, the second strikes the next replacement."""
    save(tmp_path / "count", 1, step=2)
    with breaking(10**9, Killed()) as counted:
        save(tmp_path / "count", 2, step=2)
    for first in range(1, counted.count + 1):
        for second in range(1 + first % stride, counted.count + 1, stride):
            folder = tmp_path / f"{first} {second}"
            save(folder, state_of(2), step=2, keep=1)
            for at, word in ((first, 3), (second, 4)):
                with breaking(at, Killed()), pytest.MonkeyPatch.context() as patch:
                    patch.setattr(os, "getpid", lambda word=word: 10**8 + word)
                    attempt(partial(save, folder, state_of(word), step=2, keep=1))
                assert load(folder).state["step"] in (2, 3, 4)
            save(folder, state_of(5), step=2, keep=1)
            assert steps(folder) == ["step-000000002"]
            assert load(folder).state["step"] == 5


def test_all_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1, step=1)
    done: list[tuple[str, str]] = []
    replace, opener, opened = os.replace, os.open, {}

    def open_noted(path: Any, *args: Any, **kwargs: Any) -> int:
        place = opener(path, *args, **kwargs)
        opened[place] = str(path)
        return place

    monkeypatch.setattr(os, "open", open_noted)
    monkeypatch.setattr(os, "fsync", lambda place: done.append(("sync", opened[place])))
    monkeypatch.setattr(os, "replace", lambda old, new: done.append(("move", str(old))) or replace(old, new))
    new = tmp_path / f".step-000000002.{os.getpid()}.new"
    save(tmp_path, torch.ones(3), step=2, keep=1)
    assert set(done[:3]) == {("sync", str(new / name)) for name in FILES}
    assert done[3:] == [
        ("sync", str(new)),
        ("move", str(new)),
        ("sync", str(tmp_path)),
        ("move", str(tmp_path / "step-000000001")),
    ]


def test_a_disk_that_is_full_for_safetensors_too(tmp_path: Path) -> None:
    """safetensors writes from Rust and raises no OSError. A limit on the size of files stands for the full disk."""

    def limited() -> None:
        save(tmp_path, torch.ones(10), step=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        try:
            save(tmp_path, torch.ones(10000), step=2)
        except OSError as error:
            theirs.send((error.errno, str(error)))

    context = multiprocessing.get_context("fork")  # the limit ends with the process
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=limited)
    process.start()
    theirs.close()
    number, said = ours.recv()
    process.join()
    assert number == errno.EFBIG
    assert f"while saving {tmp_path / 'step-000000002'}. The checkpoints before it are whole" in said
    assert load(tmp_path).step == 1
    assert steps(tmp_path) == ["step-000000001"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"while saving .*file"):
        save(tmp_path / "file" / "run", 1, step=1)


SAVES = """
import sys, torch
from pathlib import Path
from leantrain.checkpoint import load_latest, save
folder = Path(sys.argv[1])
found = load_latest(folder)
step = found.step if found else 0
print("ready", step, flush=True)
while True:
    step += 1
    state = {"weight": torch.full((200_000,), step), "step": step}
    save(folder, state, step=step, keep=2)
    print(step, flush=True)
    if step % 3 == 0:
        save(folder, state, step=step, keep=2)  # once more, the same
"""


@pytest.mark.slow
def test_killed_for_real_again_and_again(tmp_path: Path) -> None:
    draws, last = random.Random(0), 0
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SAVES, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["ready", str(last)]
        time.sleep(0.02 + draws.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].split() if line.isdigit()]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load_latest(tmp_path)
        assert found is not None or not said
        if found is not None:
            assert found.step >= max([last, *said])  # what was reported as saved is there
            assert found.step == found.state["step"] == int(found.state["weight"].unique())
            last = found.step
    assert last > 10
    save(tmp_path, 1, step=last + 1)
    assert len(steps(tmp_path)) == 2


def test_an_install_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for call in (lambda: save(tmp_path, 1, step=1), lambda: load_latest(tmp_path)):
        with pytest.raises(ImportError, match=r'pip install "leantrain\[train\]"'):
            call()


def test_a_checkpoint_in_whose_folder_somebody_else_put_a_file_stays(tmp_path):
    for step in (1, 2):
        save(tmp_path, {"a": step}, step=step)
    (tmp_path / "step-000000001" / "notes.txt").write_text("mine")
    for step in (3, 4):
        save(tmp_path, {"a": step}, step=step)
    assert {path.name for path in tmp_path.iterdir()} == {f"step-00000000{step}" for step in (1, 3, 4)}
    remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    assert (tmp_path / "step-000000001" / "notes.txt").read_text() == "mine"
    (tmp_path / "step-000000001" / "notes.txt").unlink()
    remove(tmp_path)
    assert not tmp_path.exists()
