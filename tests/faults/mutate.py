"""Damage to files of known structure: what comes out still passes for the format, so that readers go deep into it.

An ``Edit`` gives content with one change, or raises ValueError where the content has lost the structure it needs.
"""

import copy
import io
import json
import pickletools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Edit = Callable[[bytes, random.Random], bytes]

TEXTS = (
    *(
        "",
        "<script>alert(1)</script>",
        "../../../etc/passwd",
        "/etc/passwd",
        "{{7*7}}",
        "a\x1b[2Jb\n",
        "\0",
        "x" * 5000,
    ),
    *(
        "$tensor",
        "$dict",
        "$int",
        "$tuple",
        "$float",
        "nan",
        "-0x1",
        "0",
        "full",
        "ids+adonis",
        "ids@../x",
        "\u202e",
        "9" * 30,
    ),
)
NUMBERS = (
    0,
    -1,
    1,
    2,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    1e308,
    -1e-320,
    float("nan"),
    float("inf"),
    0.5,
)
VALUES = (None, True, False, [], {}, *TEXTS, *NUMBERS)
TOKENS = (
    *(
        b"\0",
        b"\xff",
        b"\x7f",
        b"9",
        b"[",
        b"{",
        b'"',
        b"\\ud800",
        b"\n",
        b": ",
        b"- ",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"PAR1",
    ),
    *(
        b"!!python/object/apply:os.system [true]",
        b"!!binary |",
        b"!!set ",
        b"!!int ",
        b"!!timestamp ",
        b"%YAML 9.9\n---\n",
    ),
    *(
        b"cos\nsystem\n(S'true'\ntR",
        b"\x8c\x02os\x8c\x06system\x93",
        b"r\xff\xff\xff\x7f",
        b"\x96",
        b"\x82\x01",
        b"PK\x03\x04",
    ),
)


def blind(content: bytes, rng: random.Random) -> bytes:
    """Bits, runs of bytes, lengths and pieces: flipped, overwritten, lost, doubled or moved. Knows no format."""
    out = bytearray(content)
    at, length = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 64))
    kind = rng.randrange(8)
    if kind == 0 and at < len(out):
        out[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[at : at + length] = rng.randbytes(length)
    elif kind == 2:
        out[at : at + length] = rng.choice(TOKENS)[:1] * length
    elif kind == 3:
        del out[at : at + rng.choice((length, len(out)))]
    elif kind == 4:
        out[at:at] = out[at : at + length * 4] * rng.choice((1, 2, 50))
    elif kind == 5:
        size = rng.choice((2, 4, 8))
        number = 2 ** rng.choice((7, 15, 31, 32, 47, 62, 63)) - rng.randrange(2)
        out[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
    elif kind == 6:
        out[at:at] = rng.choice(TOKENS)
    else:
        start = rng.randrange(len(out) + 1)
        out[at : at + length] = out[start : start + length]
    return bytes(out)


def value(root: Any, rng: random.Random) -> Any:
    """A copy of plain values with one of them replaced, lost, doubled, moved, renamed or wrapped up."""
    root = [copy.deepcopy(root)]
    places: list[tuple[Any, Any]] = []
    below = [root]
    while below:
        holder = below.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                below.append(holder[key])
    holder, key = rng.choice(places)
    kind = rng.randrange(7)
    if kind <= 1:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 2:
        other, name = rng.choice(places)
        holder[key] = copy.deepcopy(other[name])
    elif kind == 3 and holder is not root:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif kind == 4:
        holder *= rng.choice((2, 2, 30)) if holder is not root else 1
    elif kind == 5:
        for _ in range(rng.choice((1, 2, 50, 120))):
            holder[key] = rng.choice(([holder[key]], {"a": holder[key]}))
    elif isinstance(holder[key], int | float):
        third = holder[key] / 3 if abs(holder[key]) < 2**1000 else holder[key] // 3  # more than a float holds
        holder[key] = rng.choice((-holder[key], holder[key] + 1, third))
    return root[0]


def json_text(content: bytes, rng: random.Random) -> bytes:
    try:
        return json.dumps(value(json.loads(content), rng)).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def yaml_text(content: bytes, rng: random.Random) -> bytes:
    """A value, a line, its indentation, or a tower of aliases."""
    lines = content.decode().splitlines()
    at, kind = rng.randrange(len(lines) + 1), rng.choice((0, 1, 2, 3, 4) * 6 + (5,))
    if kind == 0:
        if content.count(b"*") > 5:
            raise ValueError("written out, it may be too large")
        try:
            return yaml.safe_dump(value(yaml.safe_load(content), rng)).encode()
        except Exception as error:  # tags that their text does not fit raise nearly every type
            raise ValueError("no YAML") from error
    if kind == 1:
        lines[at:at] = [rng.choice(("a: &a [1, 2]", "? x", "<<: *a", "b: [*a, *a, *a, *a]", "--- !!map", "- - - -"))]
    elif kind == 2 and at < len(lines):
        lines[at] = " " * rng.randrange(5) + lines[at]
    elif kind == 3 and at < len(lines):
        name, _, _ = lines[at].partition(":")
        lines[at] = f"{name}: {rng.choice((*map(str, VALUES), '*a', '[' * 70 + ']' * 70, '0o17', '1_000', '1:30:00'))}"
    elif kind == 5:
        lines[at:at] = tower(rng)
    else:
        lines[at:at] = lines[rng.randrange(len(lines) + 1) :]
    return "\n".join(lines).encode()


def tower(rng: random.Random) -> list[str]:
    """Lines that stand for as much as their levels multiply to."""
    first = rng.choice(("[x, x]", "{k: 1}", "&b [*b]", json.dumps("x" * rng.choice((10, 1000, 20_000)))))
    levels, width = rng.choice((2, 4, 9, 30, 70)), rng.choice((1, 2, 10, 100))
    merge = "{{<<: [{}]}}" if first.startswith("{") else "[{}]"
    above = (merge.format(", ".join([f"*t{level}"] * width)) for level in range(min(levels, 300 // width)))
    return [f"t0: &t0 {first}", *(f"t{level}: &t{level} {text}" for level, text in enumerate(above, start=1))]


def table(content: bytes, rng: random.Random) -> bytes:
    """A Parquet file whose columns, metadata or encoding changed."""
    return write_table(changed(read_table(content), rng), rng)


def read_table(content: bytes) -> pa.Table:
    if content[:4] != b"PAR1" or content[-4:] != b"PAR1" or len(content) > 2**17:
        raise ValueError("no Parquet")
    try:
        with pq.ParquetFile(io.BytesIO(content)) as file:
            metadata = file.metadata
            groups = sum(max(metadata.row_group(n).total_byte_size, 0) for n in range(metadata.num_row_groups))
            if metadata.num_rows > 10**4 or groups > 2**22:
                raise ValueError("too large to change")
            return file.read()
    except (pa.ArrowException, OSError, TypeError, OverflowError) as error:
        raise ValueError("no Parquet") from error


def write_table(table: pa.Table, rng: random.Random) -> bytes:
    place = io.BytesIO()
    try:
        pq.write_table(
            table,
            place,
            compression=rng.choice(("zstd", "snappy", "none", "gzip")),
            use_dictionary=rng.random() < 0.5,
            row_group_size=rng.choice((None, 1, 7)) if len(table) < 500 else None,
            data_page_version=rng.choice(("1.0", "2.0")),
            write_page_checksum=rng.random() < 0.5,
            store_schema=rng.random() < 0.5,
        )
    except (pa.ArrowException, OSError) as error:
        raise ValueError("no Parquet can hold it") from error
    return place.getvalue()


def changed(table: pa.Table, rng: random.Random) -> pa.Table:
    names, kind = table.column_names, rng.randrange(9)
    metadata = dict(table.schema.metadata or {})
    if metadata and kind <= 1:
        name = rng.choice(sorted(metadata))
        metadata[name] = rng.choice((json_text, blind))(metadata[name], rng)
        return table.replace_schema_metadata(metadata)
    if not names:
        raise ValueError("no column to change")
    place = rng.randrange(len(names))
    name, column = names[place], table.column(place)
    try:
        if kind == 2:
            return table.remove_column(place)
        if kind == 3:
            return table.rename_columns([rng.choice((*names, *TEXTS[:3])) if n == name else n for n in names])
        if kind == 4:
            return table.append_column(rng.choice((name, "weight", "label", "image")), column)
        if kind == 5:
            types = (pa.int8(), pa.int64(), pa.uint64(), pa.float64(), pa.string(), pa.binary(), pa.bool_(), pa.null())
            return table.set_column(place, name, column.cast(rng.choice(types), safe=False))
        if kind == 6:
            return rng.choice((table.slice(0, 0), table.slice(1), pa.concat_tables([table] * 9), table.take([0] * 5)))
        if kind == 7:
            return table.set_column(place, name, column.combine_chunks().dictionary_encode())
        cells = column.to_pylist()
        return table.set_column(place, name, pa.chunked_array([pa.array(value(cells, rng))]))
    except (pa.ArrowException, TypeError, OverflowError, IndexError) as error:
        raise ValueError("no such change") from error


def tensors(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose header changed, its length told rightly."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    changed = rng.choice((json_text, json_text, blind))(header, rng)
    return struct.pack("<Q", len(changed)) + changed + content[8 + length :]


def pickled(content: bytes, rng: random.Random) -> bytes:
    """A pickle with an instruction lost, doubled or moved to another place."""
    starts = [at for _, _, at in pickletools.genops(content)]
    pieces = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    at, kind = rng.randrange(len(pieces)), rng.randrange(4)
    if kind == 0:
        del pieces[at]
    elif kind == 1:
        pieces[at:at] = [rng.choice(pieces)] * rng.choice((1, 1, 20))
    elif kind == 2:
        pieces[at:at] = [
            rng.choice((*TOKENS[-6:], b"R", b"b", b"\x81", b"N", b"]", b"}", b"K\x01", b"\x86", b"2", b"0"))
        ]
    else:
        pieces[at] = blind(pieces[at], rng)
    return b"".join(pieces)


def zipped(content: bytes, rng: random.Random) -> bytes:
    """A zip file with a member changed, its checksum told rightly."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = {name: file.read(name) for name in file.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError("no zip") from error
    pickles = [name for name in members if name.endswith(".pkl")]
    name = rng.choice(pickles if pickles and rng.random() < 0.7 else sorted(members))
    members[name] = (pickled if name in pickles and rng.random() < 0.7 else blind)(members[name], rng)
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w") as file:
        for member, text in members.items():
            file.writestr(member, text)
    return place.getvalue()


def png(content: bytes, rng: random.Random) -> bytes:
    """A PNG with a chunk changed, its length and checksum told rightly."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        raise ValueError("no PNG")
    at, kind = rng.randrange(len(chunks)), rng.randrange(4)
    name, body = chunks[at]
    if kind == 0:
        chunks[at:at] = [(rng.choice((b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"tRNS", b"acTL", b"iCCP", b"IHDR")), body)]
    elif kind == 1:
        chunks[at] = rng.choice(chunks)
    else:
        chunks[at] = name, blind(body, rng)
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return content[:8] + b"".join(parts)


def mutate(content: bytes, edits: Sequence[Edit], rng: random.Random, seeds: Sequence[bytes] = ()) -> bytes:
    """``content`` with one to three changes: mostly by ``edits``, else blind; now and then with the tail of a seed."""
    if seeds and rng.random() < 0.03:
        other = rng.choice(seeds)
        content = content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]
    informed = bool(edits) and rng.random() < 0.7
    for _ in range(rng.randint(1, 3)):
        try:
            content = rng.choice(edits)(content, rng) if informed else blind(content, rng)
        except (ValueError, LookupError, struct.error, RecursionError):
            content = blind(content, rng)
    return content
