"""The files of a recording: a folder of Parquet parts, one an epoch.

A part holds the columns ``index``, ``weight`` (where not all are 1) and ``batch`` (where the plan fixes its batches).
Its metadata hold a header and a digest of header and columns, both as plain text. M = samples of an epoch.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leantrain.core.plan import Plan
from leantrain.core.view import View
from leantrain.utils import untrusted_input, validation
from leantrain.utils.atomic_write import write_whole

VERSION = 1
HEADER, DIGEST = b"leantrain.recording", b"leantrain.digest"
SAME = ("fingerprint", "size", "seed", "method", "settings")  # what the parts of one recording agree on
MOST = 100  # times that a sample can occur in an epoch; a few bytes could claim any number of rows
TYPES = {"index": ("int32", "int64"), "weight": ("float",), "batch": ("int32",)}


def name(epoch: int) -> str:
    return f"epoch-{epoch:05d}.parquet"


def parts(folder: Path) -> dict[int, Path]:
    """The parts in ``folder`` by epoch, ascending; other files are passed by."""
    numbers = [re.fullmatch(r"epoch-(\d{5,9})\.parquet", path.name) for path in folder.glob("epoch-*.parquet")]
    epochs = sorted(int(number[1]) for number in numbers if number)
    return {epoch: folder / name(epoch) for epoch in epochs if (folder / name(epoch)).is_file()}


def write(path: Path, header: dict[str, Any], plan: Plan) -> None:
    """Write a part, whole or not at all. ``header`` holds ``SAME``, epoch, epochs and lr_factor."""
    parquet = need_parquet()
    import pyarrow

    columns: dict[str, Any] = {"index": plan.indices.numpy().astype(np.int32 if header["size"] <= 2**31 else np.int64)}
    if plan.weights is not None and bool((plan.weights != 1).any()):
        columns["weight"] = plan.weights.numpy().astype(np.float32)
    if plan.batch_sizes is not None:
        sizes = [size for size in plan.batch_sizes if size]
        columns["batch"] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    text = json.dumps({"version": VERSION} | header).encode()
    table = pyarrow.table(columns, metadata={HEADER: text, DIGEST: _digest(text, columns)})

    def fill(place: Path) -> None:
        parquet.write_table(
            table,
            place,
            compression="zstd",
            use_dictionary=["weight"] if "weight" in columns else False,  # as a rule it has few values
            column_encoding={column: "DELTA_BINARY_PACKED" for column in columns if column != "weight"},
            write_page_checksum=True,
        )

    write_whole(path, fill)


def read_header(path: Path) -> dict[str, Any]:
    """The header of a part. ValueError, naming the file, when it is no part or damaged."""
    with _open(path) as file:
        return _header(path, file.metadata)


def read(path: Path) -> Plan:
    """What a part says of its epoch. ValueError, naming the file, when it is no part or damaged."""
    with _open(path) as file:
        metadata, header = file.metadata.metadata, _header(path, file.metadata)
        types = [(field.name, str(field.type)) for field in file.schema_arrow]
        columns = dict(types)
        if "index" not in columns or len(columns) < len(types) or any(t not in TYPES.get(c, ()) for c, t in types):
            raise _strange(path, f"has the columns {columns}")
        try:
            table = file.read()
        except _arrow_errors() as error:
            raise _damaged(path, error) from None
    if any(column.null_count for column in table.columns):
        raise _strange(path, f"has the columns {columns} with empty fields")
    columns = {column: table[column].to_numpy() for column in table.column_names}
    if metadata.get(DIGEST) != _digest(metadata[HEADER], columns):
        raise _damaged(path, "header and columns do not match their digest")
    indices = torch.from_numpy(columns["index"].astype(np.int64))
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < header["size"]:
        raise _strange(path, f"names samples {int(indices.min())} to {int(indices.max())} of {header['size']}")
    weights = torch.from_numpy(columns["weight"].copy()) if "weight" in columns else None
    if weights is not None and not bool(((weights >= 0) & weights.isfinite()).all()):
        raise _strange(path, "holds weights that are negative or not finite")
    sizes = None
    if "batch" in columns:
        numbers, counts = torch.from_numpy(columns["batch"].copy()).unique_consecutive(return_counts=True)
        if not torch.equal(numbers.long(), torch.arange(len(numbers))):
            raise _strange(path, "does not number its batches 0, 1, 2 and so on")
        sizes = tuple(counts.tolist())
    return Plan(indices, weights, sizes, header["lr_factor"], view=_view(header))


def need_parquet() -> Any:
    """``pyarrow.parquet``, or an ImportError that says how to install it."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ImportError('A recording needs pyarrow. Install it with: pip install "leantrain[train]"') from error
    return pyarrow.parquet


def _open(path: Path) -> Any:
    """The opened file, footer and schema read. ValueError when it is damaged."""
    parquet = need_parquet()
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        assert file.schema_arrow is not None  # read now, so that a damaged one shows here
        return file
    except _arrow_errors() as error:
        raise _damaged(path, error) from None


def _header(path: Path, metadata: Any) -> dict[str, Any]:
    text = (metadata.metadata or {}).get(HEADER)
    if text is None:
        raise _strange(path, "has no header")
    try:
        header = untrusted_input.parse_json(text)
        if header["version"] != VERSION:
            raise ValueError(f"its version is {header['version']!r}, this leantrain reads {VERSION}")
        for field in ("fingerprint", "method"):
            if not isinstance(header[field], str):
                raise TypeError(f"{field}={header[field]!r} must be text")
        if not isinstance(header["settings"], dict):
            raise TypeError("settings must be a dict")
        validation.integer("size", header["size"], least=1)
        validation.integer("seed", header["seed"], least=0)
        validation.integer("epoch", header["epoch"], least=0)
        validation.positive("lr_factor", header["lr_factor"])
        _view(header)
        if header["epochs"] is not None:
            validation.positive("epochs", header["epochs"])
    except KeyError as error:
        raise _strange(path, f"has a header without {error}") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _strange(path, f"has a header that cannot be: {error}") from None
    if metadata.num_rows > MOST * header["size"]:
        raise _strange(path, f"claims {metadata.num_rows:,} samples in an epoch of a data set of {header['size']:,}")
    if path.name != name(header["epoch"]):
        raise _strange(path, f"holds epoch {header['epoch']}, which its name does not say")
    return header


def _view(header: dict[str, Any]) -> View | None:
    """Which part of the samples was processed; recordings of all of them do not say it."""
    return View(**header["view"]) if "view" in header else None


def _arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for damaged files; its out-of-memory error, of a length that is not true, among them."""
    import pyarrow

    return pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError


def _digest(header: bytes, columns: dict[str, np.ndarray]) -> bytes:
    digest = hashlib.blake2b(header, digest_size=16)
    for column in sorted(columns):
        digest.update(column.encode())
        digest.update(np.ascontiguousarray(columns[column]).data)
    return digest.hexdigest().encode()


def _damaged(path: Path, reason: object) -> ValueError:
    first = (str(reason) or type(reason).__name__).splitlines()[0]
    return ValueError(f"{path} is cut off or damaged ({first}). Record the run again, or go on in another folder.")


def _strange(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is no part of a recording that Record(selector, path) wrote: it {reason}.")
