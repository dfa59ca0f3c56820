"""Trees of tensors and plain values as JSON, exactly: a tuple comes back a tuple, an int key an int, NaN NaN."""

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

Tree = Any  # Tensor | None | bool | int | float | str | list[Tree] | tuple[Tree, ...] | dict[str | int, Tree]

DEPTH = 100  # levels of a tree
FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
NUMBERS = ("float16", "bfloat16", "float32", "float64", "complex64")
EIGHTS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
DTYPES = ("bool", *INTEGERS, *NUMBERS, *EIGHTS)  # what safetensors knows


def pack(value: Tree, where: str, tensors: dict[str, Tensor] | None, depth: int = 0) -> Any:
    """A tree as JSON values. What JSON does not know becomes ``{"$kind": content}``.

    Args:
        value: dict (keys: str or int), list, tuple, tensor, None, bool, int, float or str; no subclass of them but
            OrderedDict, which comes back as a dict.
        where: its name in messages.
        tensors: copies of the tensors go there, under the names that stand in the JSON; None: no tensor is allowed.

    Raises:
        TypeError: it holds something else.
        ValueError: it is nested too deep.
    """
    if depth > DEPTH:
        raise ValueError(f"{where[:200]} is nested more than {DEPTH} levels deep, or holds itself.")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < 2**63 else {"$int": hex(value)}  # Python reads 4300 decimal digits, no more
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list or kind is tuple:
        items = [pack(item, f"{where}[{number}]", tensors, depth + 1) for number, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if kind is dict or kind is OrderedDict:
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{where} has the key {key!r}, a {_name(type(key))}. Keys must be str or int.")
        pairs = [(key, pack(item, f"{where}[{key!r}]", tensors, depth + 1)) for key, item in value.items()]
        plain = all(type(key) is str and not key.startswith("$") for key in value)
        return dict(pairs) if plain else {"$dict": [[pack(key, where, None), item] for key, item in pairs]}
    if isinstance(value, Tensor) and tensors is not None:
        name = str(len(tensors))
        tensors[name] = _dense(value, where)
        return {"$tensor": name}
    raise TypeError(
        f"{where} is a {_name(kind)}, which has no place here. Make it a "
        f"{'' if tensors is None else 'tensor, '}dict, list, tuple, None, bool, int, float or str."
    )


def unpack(value: Any, tensors: dict[str, Tensor], depth: int = 0) -> Tree:
    """The tree that ``pack`` made ``value`` of. Takes each tensor out of ``tensors``. ValueError: it made no such."""
    if depth > DEPTH:
        raise ValueError(f"a tree is nested more than {DEPTH} levels deep")
    if isinstance(value, list):
        return [unpack(item, tensors, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: unpack(item, tensors, depth + 1) for key, item in value.items()}
    match list(value.items()):
        case [("$int", str(text))]:
            return int(text, 16)
        case [("$float", str(text))] if text in FLOATS:
            return FLOATS[text]
        case [("$tensor", str(name))] if name in tensors:
            return tensors.pop(name)
        case [("$tuple", list(items))]:
            return tuple(unpack(item, tensors, depth + 1) for item in items)
        case [("$dict", list(pairs))] if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            keys = [unpack(key, {}, DEPTH) for key, _ in pairs]
            if all(type(key) in (str, int) for key in keys) and len(set(keys)) == len(keys):
                return {key: unpack(item, tensors, depth + 1) for key, (_, item) in zip(keys, pairs, strict=True)}
    raise ValueError(f"a tree holds {str(value)[:80]}, which stands for nothing")


def _dense(value: Tensor, where: str) -> Tensor:
    plain = value.detach()
    dtype = str(plain.dtype).removeprefix("torch.")
    if type(plain) is not Tensor or plain.layout is not torch.strided or plain.is_meta or dtype not in DTYPES:
        raise TypeError(
            f"{where} is a {_name(type(plain))} of {plain.dtype}, {plain.layout}, on {plain.device}. Make it a dense "
            f"tensor of one of the dtypes {', '.join(DTYPES)}."
        )
    return plain.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
