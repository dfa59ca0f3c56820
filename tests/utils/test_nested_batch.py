"""Rows of a batch, and batches joined, are what ``default_collate`` makes of those samples."""

from collections import OrderedDict, defaultdict, namedtuple
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from leantrain.utils import nested_batch

Point = namedtuple("Point", "x y")


def default_dict(i: int) -> Any:
    found: defaultdict[str, Any] = defaultdict(list)
    found["x"] = torch.full((2,), float(i))
    return found


SAMPLES = {
    "tensor": lambda i: torch.full((2, 3), i),
    "number": lambda i: i / 2,
    "text": lambda i: f"text {i}",
    "bytes": lambda i: b"%d" % i,
    "tuple": lambda i: (torch.tensor([i, i]), i),
    "list": lambda i: [np.full(3, i), f"{i}"],
    "texts": lambda i: (f"a{i}", f"b{i}"),
    "one text in a list": lambda i: [f"a{i}"],
    "named tuple": lambda i: Point(i, (torch.ones(1) * i, "p")),
    "dict": lambda i: {"x": torch.eye(2) * i, "meta": {"id": i, "path": f"{i}.png"}},
    "ordered dict": lambda i: OrderedDict(b=i, a=torch.ones(2) * i),
    "default dict": default_dict,
    "nothing inside": lambda i: (i, [], {}),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("rows", [[0], [3, 1], [0, 1, 2, 3, 4], [2, 2]], ids=str)
def test_take(kind: str, rows: list[int]) -> None:
    samples = [SAMPLES[kind](i) for i in range(5)]
    expected = default_collate([samples[i] for i in rows])
    assert same(nested_batch.take(default_collate(samples), torch.tensor(rows)), expected)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("cuts", [[0, 5], [0, 2, 5], [0, 1, 4, 5]], ids=str)
def test_join(kind: str, cuts: list[int]) -> None:
    samples = [SAMPLES[kind](i) for i in range(5)]
    pieces = [default_collate(samples[a:b]) for a, b in pairwise(cuts)]
    assert same(nested_batch.join(pieces), default_collate(samples))


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_split(kind: str, rows: int) -> None:
    samples = [SAMPLES[kind](i) for i in range(5)]
    whole = default_collate(samples)
    if nested_batch.size(whole) is None:  # texts alone
        rows = 5
    pieces = nested_batch.split(whole, rows)
    expected = [default_collate(samples[at : at + rows]) for at in range(0, 5, rows)]
    assert len(pieces) == len(expected)
    assert all(map(same, pieces, expected))


@pytest.mark.parametrize("kind", SAMPLES)
def test_to_changes_tensors_only(kind: str) -> None:
    batch = default_collate([SAMPLES[kind](i) for i in range(3)])
    assert same(nested_batch.to(batch, "cpu"), batch)
    assert nested_batch.to(batch, None) is batch


def test_to_moves_every_tensor() -> None:
    moved = nested_batch.to(default_collate([SAMPLES["dict"](i) for i in range(3)]), "meta")
    assert (moved["x"].device.type, moved["meta"]["id"].device.type) == ("meta", "meta")
    assert moved["meta"]["path"] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(("kind", "rows"), [("dict", 5), ("tuple", 5), ("text", None)])
def test_size(kind: str, rows: int | None) -> None:
    assert nested_batch.size(default_collate([SAMPLES[kind](i) for i in range(5)])) == rows
