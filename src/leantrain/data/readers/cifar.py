"""CIFAR-10 and CIFAR-100 as torchvision downloads and extracts them ("python version").

Those files are pickles, and unpickling runs whatever the file asks for. So they are read by an unpickler that
knows four names and replaces all of them by inert stand-ins: nothing of NumPy, and nothing else, is called. Before,
the instructions are read without being followed: some would fill the memory.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from leantrain.data.datasets import ImageData, from_arrays
from leantrain.utils import untrusted_input

_PIXELS = 3 * 32 * 32
_MOST_BYTES = 2**29  # of a file; the largest of CIFAR's has 150 MB
_MOST_CALLS = 16  # of the stand-ins, each of which can copy what it is given; a CIFAR file makes about four
# What is needed for containers, numbers below 2**31, text and arrays.
_INSTRUCTIONS = frozenset(
    [
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
        *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
        *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    ]
)


def read10(folder: Path, limit: int | None, image_size: int | None) -> ImageData:
    """CIFAR-10: FOLDER (or FOLDER/cifar-10-batches-py) with data_batch_1 .. 5, test_batch, batches.meta."""
    folder = _inside(folder, "cifar-10-batches-py", "test_batch")
    train = [_split(folder / f"data_batch_{i}", "labels") for i in range(1, 6)]
    images, targets = (torch.cat(part) for part in zip(*train, strict=True))
    classes = _names(folder / "batches.meta", "label_names")
    test = _split(folder / "test_batch", "labels")
    return from_arrays("cifar10", (images, targets), test, classes, limit=limit, image_size=image_size)


def read100(folder: Path, limit: int | None, image_size: int | None) -> ImageData:
    """CIFAR-100, its 100 fine labels: FOLDER (or FOLDER/cifar-100-python) with train, test, meta."""
    folder = _inside(folder, "cifar-100-python", "test")
    train, test = _split(folder / "train", "fine_labels"), _split(folder / "test", "fine_labels")
    classes = _names(folder / "meta", "fine_label_names")
    return from_arrays("cifar100", train, test, classes, limit=limit, image_size=image_size)


def _inside(folder: Path, usual: str, file: str) -> Path:
    """The folder that holds ``file``: as given, or the one that extracting the archive makes in it."""
    return folder if (folder / file).is_file() else folder / usual


def _split(path: Path, key: str) -> tuple[Tensor, Tensor]:
    """One batch file as (n, 3, 32, 32) uint8 images and (n,) int64 labels."""
    content = _load(path)
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise ValueError(f"{path} lacks an array 'data' or a list {key!r}; it is not the CIFAR file expected.")
    if not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{path}: {key!r} holds something else than integers.")
    if not labels or data.dtype != "u1" or len(data.raw) != _PIXELS * len(labels):
        raise ValueError(
            f"{path}: {len(data.raw)} bytes of type {data.dtype} for {len(labels)} labels; "
            f"expected uint8, {_PIXELS} per label. The file is damaged; extract the archive again."
        )
    if not all(-(2**31) <= label < 2**31 for label in labels):
        raise ValueError(f"{path}: {key!r} holds {max(labels, key=abs)}; labels count the classes from 0.")
    images = torch.frombuffer(bytearray(data.raw), dtype=torch.uint8)
    return images.view(-1, 3, 32, 32), torch.tensor(labels, dtype=torch.int64)


def _names(path: Path, key: str) -> Sequence[str]:
    names = _load(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} lacks the list of strings {key!r}; it is not the CIFAR file expected.")
    return names


def _load(path: Path) -> dict[str, Any]:
    try:
        raw = untrusted_input.read_bytes(path, _MOST_BYTES)
        _scan(raw)
        content = _Unpickler(io.BytesIO(raw), encoding="latin1").load()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is missing. Expected the extracted CIFAR archive (python version) of torchvision."
        ) from error
    except Exception as error:  # a damaged pickle raises nearly every type
        raise ValueError(f"{path} is not a readable CIFAR file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a dictionary.")
    return content


def _scan(raw: bytes) -> None:
    """Refuse a pickle whose instructions no CIFAR file needs; none of them is followed here."""
    puts = calls = 0
    for instruction, argument, _ in pickletools.genops(raw):
        if instruction.name not in _INSTRUCTIONS:
            raise ValueError(f"it holds the instruction {instruction.name}, which no CIFAR file needs")
        if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            puts += 1
            if argument is not None and argument > puts:  # the table of stored values grows up to this number
                raise ValueError("it stores a value under a number far beyond those before it")
        calls += instruction.name in ("REDUCE", "BUILD")
        if calls > _MOST_CALLS:
            raise ValueError(f"it makes more than {_MOST_CALLS} calls")


class _Dtype:
    """Stands in for numpy.dtype: keeps the type's code."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and the like, which do not matter for single bytes."""


class _Array:
    """Stands in for numpy.ndarray: keeps type and bytes."""

    dtype = ""
    raw = b""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, str | bytes]) -> None:
        _, _, dtype, fortran, raw = state
        if fortran:
            raise ValueError("an array in column order")
        self.dtype = dtype.code
        self.raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(self.raw, bytes):
            raise ValueError("an array of something else than bytes")


def _reconstruct(*_: object) -> _Array:
    """Stands in for numpy's function of that name, which makes an empty array to be filled."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes into old pickles."""
    if encoding != "latin1":
        raise ValueError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads plain containers, numbers, strings and byte arrays; any other name in the file is an error."""

    known: ClassVar[dict[tuple[str, str], Callable[..., object]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            known = self.known[module, name]
            # A function of its own each time: a pickle may set attributes of what it was given.
            return known if isinstance(known, type) else lambda *args: known(*args)
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no CIFAR file needs; it may run code and was not opened"
            ) from None
