"""Files made to harm: no code runs, nothing is written elsewhere, memory stays small, errors name the file."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from target import attempt
from targets import HEADER, _store
from targets_data import IMAGES

from leantrain import data, methods, report
from leantrain.compare.config import CompareConfig
from leantrain.compare.runner import Job
from leantrain.compare.store import Store, StoredRun, _read_column, read_json
from leantrain.data.readers import cifar, decode
from leantrain.embed import published
from leantrain.embed.features import Features
from leantrain.replay import parquet_parts
from leantrain.report import counts, results, shares
from leantrain.report.figures import kept_share
from leantrain.train.config import parse_yaml, read_yaml
from leantrain.train.facts import RunFacts
from report.synthetic import write_results

MEGABYTE = 2**20


def in_small_memory(attempts: dict[str, tuple[str, Path]]) -> dict[str, str]:
    """What each piece of code says of its file, in a process that may use 400 MB beyond what its imports take."""
    program = """
import json, resource, sys
import PIL.Image, numpy, pyarrow.parquet, torch
from pathlib import Path
from leantrain import data
from leantrain.data.readers import cifar, decode
from leantrain.report import counts, results
from leantrain.utils import untrusted_input

untrusted_input.TABLE = 2**25  # bytes, a sixteenth: the bombs can be smaller
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, resource.RLIM_INFINITY))
said = {}
for name, (code, file) in json.loads(sys.argv[1]).items():
    try:
        eval(code, globals() | {"file": Path(file)})
        said[name] = "read"
    except (ValueError, TypeError, OSError) as error:
        said[name] = f"{type(error).__name__} {error}"
print(json.dumps(said))
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            json.dumps({name: (code, str(file)) for name, (code, file) in attempts.items()}),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# Images


def png(width: int, height: int, colour: int = 2, body: bytes = b"\0" * 999) -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body, 1)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(side: int, tile: int, turned: int = 1) -> bytes:
    """A TIFF of one grey tile; all its content is one byte repeated."""
    body = zlib.compress(b"\0" * MEGABYTE, 9)
    tags = [
        (256, side),
        (257, side),
        (258, 8),
        (259, 8),
        (262, 1),
        (274, turned),
        (277, 1),
        (322, tile),
        (323, tile),
        (324, 8),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (325, len(body))])
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags) + 1) + entries + b"\0" * 4


def webp(side: int) -> bytes:
    """An animation without frames on a canvas."""
    size = (side - 1).to_bytes(3, "little")
    body = (
        b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + size + b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


HEADERS = {
    "png": png(60_000, 60_000),
    "wide.png": png(2**31 - 1, 1),
    "gigapixel.png": png(65_536, 16_384),
    "alpha.png": png(9459, 9459, 6),  # of RGBA, which is copied to become RGB
    "bmp": bmp(60_000, 60_000),
    "tiff": tiff(60_000, 256),
    "tile.tiff": tiff(16, 32_768),
    "turned.tiff": tiff(9456, 16, 6),
    "ppm": b"P6 60000 60000 255\n",
    "webp": webp(16_383),
    "gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0;",
}


def exchange_levels(file: Path) -> None:
    """The histograms of repetition levels, empty, and of definition levels, two numbers, in each other's place."""
    content = file.read_bytes()
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = re.sub(
        rb"\x19\x06(\x19\x26\x00[\x80-\xff]*[\x00-\x7f])", lambda found: found[1] + b"\x19\x06", content[at:]
    )
    assert footer != content[at:]
    file.write_bytes(content[:at] + footer)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What readers said of files that would fill the memory."""
    folder, attempts = tmp_path_factory.mktemp("bombs"), {}
    for name, content in HEADERS.items():
        (folder / name).write_bytes(content)
        attempts[name] = "decode.decode(file, file.name, size=32)", folder / name
    text = b"X" + struct.pack("<I", MEGABYTE) + b"a" * MEGABYTE + b"q\x01"
    call = b"c_codecs\nencode\n(h\x01X\x06\x00\x00\x00latin1tRa"
    (folder / "copies").write_bytes(b"\x80\x02](" + text + b"e" + call * 2000 + b".")
    (folder / "memo").write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")  # a table of 32 GB
    attempts |= {name: ("cifar._load(file)", folder / name) for name in ("copies", "memo")}
    bombs = {
        "one value": {"image": pa.array([b"\0" * (40 * MEGABYTE)]), "label": [0]},
        "repeated value": {"image": coded(b"a" * MEGABYTE, 5000), "label": coded(1, 5000)},
        "rows": {"image": coded(b"a", 5 * 10**6), "label": coded(1, 5 * 10**6)},
    }
    for name, columns in bombs.items():
        table(folder / name, **columns)
        assert (folder / name / "train.parquet").stat().st_size < MEGABYTE / 5
        attempts[name] = "data.load(f'parquet:{file}')", folder / name
    images = [(f"{split}/{name}/0.png", 8) for split in ("train", "test") for name in ("cat", "dog")]
    for name, side in (*images, ("train/dog/1.png", 8000)):
        place = folder / "large" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(side, side, body=bytes(side * (3 * side + 1))))
    attempts["large"] = "data.load(f'imagefolder:{file}')", folder / "large"
    write_results(folder / "out", methods=["ids"], seeds=1, samples=60, epochs=4)
    counts_of(folder / "out", 900_000, method=coded("x" * MEGABYTE, 900_000), index=coded(1, 900_000))
    attempts["method"] = "counts.load_counts(results.load(file))", folder / "out"
    write_results(folder / "levels", methods=["ids", "rs2"], seeds=2, samples=60, epochs=4)
    exchange_levels(folder / "levels" / counts.FILE)
    attempts["levels"] = "counts.load_counts(results.load(file))", folder / "levels"
    return in_small_memory(attempts)


@pytest.mark.parametrize("name", HEADERS)
def test_an_image_header_that_claims_gigabytes_is_refused(name: str, said: dict[str, str]) -> None:
    assert said[name].startswith(f"UnreadableError {name} claims more than 89,478,485 pixels")  # a ValueError
    if name != "ppm":
        with pytest.raises(ValueError, match=r"7\.x"):
            decode.dimensions(HEADERS[name][:20], "7.x")  # cut off within its header


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("copies", "copies is not a readable CIFAR file: it makes more than 16 calls"),
        ("memo", "memo is not a readable CIFAR file: it stores a value under a number far beyond"),
        ("one value", "train.parquet is not a readable Parquet file: its "),
        ("repeated value", "train.parquet is not a readable Parquet file: its "),
        ("rows", "train.parquet is not a readable Parquet file: it claims 5,000,000 rows"),
        ("large", "train/dog/1.png is 8000x8000; the first training image is 8x8"),
        ("method", "counts.parquet is not complete Parquet ('method' holds a name of 1,048,576 bytes)"),
        ("levels", "counts.parquet is not complete Parquet"),  # which would end the process
    ],
)
def test_bombs_are_refused_before_they_fill_the_memory(name: str, text: str, said: dict[str, str]) -> None:
    assert text in said[name]


def test_one_large_image_is_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    class Gate:
        def __enter__(self) -> None:
            held.append(1)

        def __exit__(self, *error: object) -> None:
            held.append(-1)

    monkeypatch.setattr(decode, "_one_large", Gate())
    monkeypatch.setattr(decode, "_LARGE", 100)
    import io

    for side in (10, 11):
        buffer = io.BytesIO()
        Image.new("L", (side, side)).save(buffer, "PNG")
        decode.decode(buffer.getvalue(), "x", size=4)
    assert held == [1, -1]  # of the second alone, given back


# Image folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for i, name in enumerate(("cat", "dog")):
            place = tmp_path / "set" / split / name
            place.mkdir(parents=True)
            Image.new("RGB", (8, 8), (i * 90, 20, 20)).save(place / "0.png")
    return tmp_path / "set"


def test_links_are_followed_but_only_to_images(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "outside.png")
    (folder / "train" / "cat" / "1.png").symlink_to(tmp_path / "outside.png")
    (folder / "train" / "cat" / "loop").symlink_to(folder)  # a folder within a class: passed over
    (folder / "train" / "dog" / "gone.png").symlink_to(tmp_path / "missing.png")
    os.mkfifo(folder / "train" / "dog" / "pipe.png")
    told = r"1 linked folders, 1 links that lead nowhere, 1 no regular file; the first is 'cat/loop'"
    with pytest.warns(UserWarning, match=f"train: 3 files are passed over: {told}"):
        assert data.load(f"imagefolder:{folder}").targets.tolist() == [0, 0, 1]
    (folder / "train" / "cat" / "2.png").symlink_to(tmp_path / "secret.txt")
    with (
        pytest.warns(UserWarning, match="3 files are passed over"),
        pytest.raises(ValueError, match=r"train/cat/2\.png is not a readable image") as caught,
    ):
        data.load(f"imagefolder:{folder}")
    assert "secret" not in str(caught.value)


def test_class_names_that_cannot_be_shown_are_refused(folder: Path) -> None:
    for name in (b"\xff\xfe", b"a\x1b[2Jb", b"a\nb"):
        place = os.fsencode(folder / "train") + b"/" + name
        os.mkdir(place)
        with pytest.raises(ValueError, match="cannot be printed") as caught:
            data.load(f"imagefolder:{folder}")
        assert str(caught.value).isprintable()
        os.rmdir(place)


@pytest.mark.parametrize("spec", [5, None, ["digits"], b"digits"])
def test_a_spec_from_a_file_has_to_be_text(spec: Any) -> None:
    with pytest.raises(TypeError, match="must be text"):
        data.load(spec)


@pytest.mark.parametrize("option", ["limit", "image_size"])
@pytest.mark.parametrize("value", ["9", 2.5, True, [1], float("nan")])
def test_options_from_a_file_have_to_be_whole_numbers(option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{option}=.* must be a whole number"):
        data.load("digits", **{option: value})


# CIFAR's pickles


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x80\x02]r\xff\xff\xff\x7f.", "far beyond"),  # 32 GB of table in 8 bytes
        (b"\x80\x02]p4000000000\n.", "far beyond|not a readable"),
        (b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.", "not a readable"),
        (b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b".", "not a readable"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f1.", "not a readable"),
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"a.", "not a readable|BYTEARRAY8"),
        (b"\x80\x02}q\x00\x82\x01.", "EXT1"),
        (b"\x80\x02}" + b"2" * 9 + b".", "DUP"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (
            b"\x80\x02" + b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1tR" * 50 + b".",
            "more than 16 calls",
        ),
        (b"(" * 10**5 + b".", "not a readable"),
        (b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "holds a list"),
    ],
)
def test_pickles_cannot_fill_the_memory(content: bytes, text: str, tmp_path: Path) -> None:
    file = tmp_path / "test_batch"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=text) as caught:
        cifar._load(file)
    assert str(file) in str(caught.value)


def test_a_pickle_cannot_change_the_stand_ins(tmp_path: Path) -> None:
    file = tmp_path / "batches.meta"
    file.write_bytes(b"\x80\x02c_codecs\nencode\nN}X\x08\x00\x00\x00evidenceK\x01s\x86b.")
    with pytest.raises(ValueError, match="expected a dictionary"):
        cifar._load(file)
    assert not hasattr(cifar._encode, "evidence")


def test_a_label_beyond_all_numbers(tmp_path: Path) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 2**31 - 1]}, protocol=2))
    assert cifar._split(file, "labels")[1].tolist() == [0, 2**31 - 1]
    file.write_bytes(file.read_bytes().replace(b"J\xff\xff\xff\x7f", b"I" + b"9" * 99 + b"\n"))
    with pytest.raises(ValueError, match="labels count the classes from 0"):
        cifar._split(file, "labels")


# Parquet


def table(folder: Path, **columns: Any) -> str:
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        pq.write_table(pa.table(columns), folder / f"{split}.parquet", compression="zstd", store_schema=False)
    return f"parquet:{folder}"


def coded(value: Any, rows: int) -> pa.DictionaryArray:
    """``value`` in each of ``rows`` rows; in the file, one value and a few bytes."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"image": [b"a"], "label": [2**60]}, "label 1152921504606846976 is too large"),
        ({"image": [b"a"], "label": pa.array([2**64 - 1], pa.uint64())}, "is too large"),
        ({"image": [b"a"], "label": [[0]]}, "is list"),
        ({"image": [b"a"], "label": [{"x": 0}]}, "is struct"),
        ({"image": [b"a"], "label": [float("nan")]}, "is double"),
        ({"image": [b"a"], "label": [b"\xff"]}, "is binary"),
        ({"image": [[b"a"]], "label": [0]}, "is list"),
        ({"image": [{"bytes": {"bytes": b"a"}}], "label": [0]}, "is struct"),
        ({"image": [{"path": "/etc/passwd"}], "label": [0]}, "is struct"),
    ],
)
def test_parquet_types_are_checked(columns: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        data.load(table(tmp_path / "set", **columns))
    assert "train.parquet" in str(caught.value)


def test_parquet_pipes_and_hostile_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    table(folder, image=[b"a", b"b"], label=[0, 1])
    for names in (b"[" * 10**5, b'{"info": {"features": {"label": {"names": 5}}}}', b'"\\ud800"', b"\xff"):
        whole = pq.read_table(folder / "test.parquet").replace_schema_metadata({b"huggingface": names})
        pq.write_table(whole, folder / "train.parquet")
        with pytest.raises(ValueError, match="row 0 is not a readable image"):  # the names are passed over
            data.load(f"parquet:{folder}")
    (folder / "train.parquet").unlink()
    os.mkfifo(folder / "train.parquet")
    with pytest.raises(FileNotFoundError, match=r"lacks train\.parquet"):
        data.load(f"parquet:{folder}")


# Recordings


def part(folder: Path, header: Any, **columns: Any) -> Path:
    path = folder / parquet_parts.name(0)
    text = header if isinstance(header, bytes) else json.dumps({"version": 1} | header).encode()
    plain = {name: np.asarray(values) for name, values in columns.items()}
    metadata = {parquet_parts.HEADER: text, parquet_parts.DIGEST: parquet_parts._digest(text, plain)}
    pq.write_table(pa.table(plain, metadata=metadata), path, compression="zstd")
    return path


def test_a_recording_with_more_rows_than_its_data_set_could_use(tmp_path: Path) -> None:
    path = part(tmp_path, HEADER, index=np.zeros(4001, np.int32))
    with pytest.raises(ValueError, match="claims 4,001 samples in an epoch of a data set of 40"):
        parquet_parts.read(path)
    assert len(parquet_parts.read(part(tmp_path, HEADER, index=np.zeros(4000, np.int32))).indices) == 4000


def test_a_recordings_columns_are_checked_before_they_are_read(tmp_path: Path) -> None:
    path = part(tmp_path, HEADER, index=np.zeros(40, np.int32))
    metadata = pq.read_schema(path).metadata
    pq.write_table(pa.table({"index": [b"a" * 9]}).replace_schema_metadata(metadata), path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 20 + content[24:])  # the first page cannot be read
    with pytest.raises(ValueError, match=r"has the columns {'index': 'binary'}"):
        parquet_parts.read(path)


@pytest.mark.parametrize(
    "value", ["[" * 500 + "]" * 500, '{"a":' * 100 + "1" + "}" * 100, '"\\ud800"', "9" * 5000, "[" * 10**5]
)
def test_a_recordings_header_can_be_shown_again(value: str, tmp_path: Path) -> None:
    text = json.dumps({"version": 1} | HEADER | {"settings": {"x": 0}}).replace('{"x": 0}', f'{{"x": {value}}}')
    with pytest.raises(ValueError, match=r"epoch-00000\.parquet is no part of a recording"):
        parquet_parts.read_header(part(tmp_path, text.encode(), index=np.zeros(4, np.int32)))


# Features, weights, arrays


def safetensors(path: Path, header: bytes, body: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + body)
    return path


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**63),
        (b"{}", 2**30),
        (b"{" * 10**5, None),
        (b'{"features":{"dtype":"F32","shape":[1099511627776,8],"data_offsets":[0,4]}}', None),
        (b'{"features":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', None),
        (b'{"features":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', None),
        (b'{"features":{"dtype":"I32","shape":[1,1],"data_offsets":[0,4]}}', None),
        (b'{"other":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}', None),
        (
            b'{"__metadata__":{"seconds":"soon"},"features":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}',
            None,
        ),
    ],
)
def test_absurd_features(header: bytes, length: int | None, tmp_path: Path) -> None:
    file = safetensors(tmp_path / "f.safetensors", header, b"\0" * 4, length)
    with pytest.raises(ValueError, match=r"f\.safetensors"):
        Features.load(file)
    with pytest.raises(FileNotFoundError):
        Features.load(tmp_path / "none.safetensors")


class Evidence:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_weights_run_no_code(tmp_path: Path) -> None:
    file, evidence = tmp_path / "w.pth", tmp_path / "evidence"
    torch.save({"a": Evidence(evidence)}, file)
    with pytest.raises(ValueError, match=r"w\.pth is not a readable file of weights"):
        published._read(file, "a model", "its place")
    file.write_bytes(pickle.dumps(Evidence(evidence)))
    with pytest.raises(ValueError, match=r"w\.pth is not a readable file of weights"):
        published._read(file, "a model", "its place")
    assert not evidence.exists()


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + b"\0" * 64


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        npy("{'descr': '<i4', 'fortran_order': False, 'shape': (" + "9" * 40 + ",), }"),
        npy("{'descr': '<i4', 'fortran_order': False, 'shape': (-4,), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }"),
        npy("{'descr': '<i4', 'fortran_order': False, 'shape': (4, 4), }"),
        npy("{'descr': [('a', '<i4', (1000000000,))], 'fortran_order': False, 'shape': (1,), }"),
        npy("__import__('os').system('true')"),
        npy("(" * 5000),
        npy("{'descr': '<i4'"),
        b"PK\x03\x04" + b"\0" * 60,
        pickle.dumps([1, 2]),
    ],
)
def test_absurd_arrays(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "full-seed0.npy"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"full-seed0\.npy is damaged"):
        _read_column(file)


# YAML and JSON


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    return "\n".join(lines + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)])


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k: 1, l: 2}"]
    return "\n".join(lines + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, levels)])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (bomb(9), "more than 100,000 items"),
        (merges(9), "more than 100,000 items"),
        ('a: &a "' + "x" * 20_000 + '"\nb: [' + "*a, " * 5000 + "]", "more than 100,000 items"),
        ("a: &a [*a]", "deeper than|more than"),
        ("a: &a {b: *a}", "deeper than|more than"),
        ("a: " + "[" * 100 + "]" * 100, "nested deeper than 60"),
        ("[" * 10**5, "nested deeper than"),
        ("- " * 10**5, "nested deeper than"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !!int ''", "is not YAML"),
        ("a: !!bool maybe", "is not YAML"),
        ("a: !!timestamp never", "is not YAML"),
        ("a: 2001-99-99", "is not YAML"),
        ("a: 0x" + "f" * 10**5, "is not YAML"),
        ("a: " + "9" * 5000, "is not YAML"),
        ('a: "\\ud800"', "is not YAML"),
        ("{[a]: 1}", "is not YAML"),
        ("a: b\nc: \0", "is not YAML"),
        ("x" * (10**6 + 1), "larger than 1,000,000 bytes"),
        ("settings: [1, 2]", "settings must hold values by method"),
        ("settings: {ids: 5}", "settings must hold values by method"),
        ("", "must hold settings by name"),
        ("5", "must hold settings by name"),
    ],
)
def test_hostile_yaml(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=why) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 10_000


def test_aliases_and_merges_are_still_yaml(tmp_path: Path) -> None:
    text = "base: &b {lr: 0.1, epochs: 3}\nmine: {<<: *b, epochs: 5}\nagain: [*b, *b]\nempty: ''"
    expected = {"lr": 0.1, "epochs": 3}
    made = {"base": expected, "mine": {"lr": 0.1, "epochs": 5}, "again": [expected] * 2, "empty": ""}
    assert parse_yaml(text) == made
    assert parse_yaml("auto") == "auto"
    assert parse_yaml("") is None
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_yaml(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_yaml(tmp_path / "none")


@pytest.mark.parametrize("text", ["[" * 10**5, "[" * 200 + "]" * 200, '"\\udc80"', "9" * 5000, "", '{"a": }', '"\xff'])
def test_hostile_json(text: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(text.encode("latin1"))
    for read in (lambda: read_json(file), lambda: results.load(tmp_path)):
        with pytest.raises(ValueError, match=r"results\.json"):
            read()


# Labels of methods, folders of comparisons

BAD = ("../../x", "a/b", "a\\b", "a\0b", "a\nb", "..\\x", "a:b", "a*", "<script>", "x" * 300, "a\u2028b", "\ud800")


@pytest.mark.parametrize("label", BAD)
def test_labels_never_become_paths(label: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    method = f"ids@{label}"
    config = CompareConfig.model_construct(methods=("full", method), seeds=(0,))
    with pytest.raises(ValueError, match=r"cannot name a file|surrogate"):
        Store(out, config, "f")
    plain = Store(out, CompareConfig(methods=("full",)), "f")
    for job in (Job(method, 0), Job("full", 0, control_for=method)):
        with pytest.raises(ValueError, match=r"cannot name a file|surrogate"):
            plain.load(job)
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "out", "config.json"]


@pytest.mark.parametrize("label", ["cosine", "r0.5", "theta=auto", "größe", "a b", "x_1-2,3", "grad-match+adonis"])
def test_sensible_labels_are_allowed(label: str, tmp_path: Path) -> None:
    store = Store(tmp_path, CompareConfig(methods=("full", f"ids@{label.partition('+')[0]}")), "f")
    assert store.load(Job(f"ids@{label}", 0)) is None
    assert all(store.load(Job(name, 0)) is None for name in methods.METHODS)


def test_a_folder_of_runs_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.json").write_text("{}")
    out, config = tmp_path / "out", CompareConfig(methods=("full",))
    Store(out, config, "f")
    (out / "runs").symlink_to(other)
    with pytest.raises(ValueError, match="runs is a link"):
        Store(out, config, "f", overwrite=True)
    assert (other / "precious.json").exists()


FACTS: dict[str, Any] = {
    **dict.fromkeys(("accuracy", "epochs", "train_seconds", "preprocess_seconds", "selection_seconds"), 0.5),
    **dict.fromkeys(("forward_samples", "backward_samples", "loaded_samples", "scored_samples"), 60),
    "trajectory": [{"epoch": 0, "train_seconds": 0.5, "accuracy": 0.5}],
    "costs": {"fetch": 0.1, "score": None, "step": 0.1, "decide": 0.1},
}


def test_a_finished_run_is_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path, CompareConfig(methods=("full",)), "f")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "full-seed0.json").write_text(
        json.dumps({"facts": FACTS, "epochs": [{"epoch": 0, "lr": None}]})
    )
    found = store.load(Job("full", 0))
    assert found == StoredRun(RunFacts(method="full", seed=0, **FACTS), [{"epoch": 0, "lr": None}], {})
    assert {name: found.facts.model_dump()[name] for name in FACTS} == FACTS


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"facts": [], "epochs": []},
        {"facts": {}, "epochs": []},
        {"facts": {"accuracy": 1}, "epochs": [1]},
        {"facts": FACTS, "epochs": [{"epoch": "x"}]},
        {"facts": FACTS | {"costs": {}}, "epochs": []},
        {"facts": FACTS | {"aside": None}, "epochs": []},
        {"facts": FACTS | {"accuracy": True}, "epochs": []},
        {"facts": FACTS | {"accuracy": float("nan")}, "epochs": []},
        {"facts": FACTS | {"loaded_samples": 10**400}, "epochs": []},
        {"facts": FACTS | {"trajectory": [{"epoch": 0}]}, "epochs": []},
        5,
        "x",
    ],
)
def test_a_run_that_is_none_is_refused(content: Any, tmp_path: Path) -> None:
    store = Store(tmp_path, CompareConfig(methods=("full",)), "f")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "full-seed0.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"full-seed0\.json is not what a finished run leaves"):
        store.load(Job("full", 0))


def test_finished_runs_that_took_no_time(tmp_path: Path) -> None:
    target = _store(tmp_path)["comparison that goes on"]
    content = json.loads(target.seeds[0])
    assert attempt(target, json.dumps(content).encode()) == ""
    content["facts"] |= {name: 0 for name in FACTS if name.endswith(("_samples", "_seconds"))}
    content["facts"]["costs"]["decide"] = 0
    assert "took no time or used no samples" in attempt(target, json.dumps(content).encode())


def test_a_finished_run_does_not_say_whose_it_is(tmp_path: Path) -> None:
    target = _store(tmp_path)["comparison that goes on"]
    content = json.loads(target.seeds[0])
    content["facts"] |= {"method": "../x", "seed": "y", "control_for": "full"}
    content["epochs"][0] |= {"method": 5, "run": 6}
    assert attempt(target, json.dumps(content).encode()) == ""
    told = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert {(run["method"], run["seed"]) for run in told} <= {("full", 0), ("ids", 0), ("rs2", 0)}
    assert set(pq.read_table(tmp_path / "out" / "metrics.parquet")["method"].to_pylist()) <= {
        "full",
        "ids",
        "rs2",
    }


@pytest.mark.parametrize("content", [5, [], {"config": 5, "data": "f"}, {"config": [], "data": "f"}, {"data": "f"}])
def test_a_configuration_that_is_none_is_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"comparison on other data|config\.json holds no configuration"):
        Store(tmp_path, CompareConfig(methods=("full",)), "f", resume=True)


# Reports


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_results(tmp_path, methods=["ids", "rs2"], seeds=2, samples=60, epochs=4)
    return tmp_path


def edit(out: Path, change: Any) -> None:
    content = json.loads((out / "results.json").read_text())
    change(content)
    (out / "results.json").write_text(json.dumps(content))


HUGE: tuple[Any, ...] = (10**400, 1e308, -1, 2.0e15, float("nan"), float("inf"), "1", None, [], {}, True)


@pytest.mark.parametrize("value", HUGE, ids=repr)
@pytest.mark.parametrize("key", ["accuracy", "epochs", "seed", "train_seconds"])
def test_impossible_numbers_are_refused(key: str, value: Any, out: Path) -> None:
    if (key, value) != ("epochs", 0):
        edit(out, lambda content: content["runs"][0].update({key: value}))
        with pytest.raises(ValueError, match=rf"results\.json: runs\[0\] \(full\): '{key}'"):
            results.load(out)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["runs"][1].update(epochs=0),
        lambda c: c["runs"][1].update(accuracy=1.5),
        lambda c: c["runs"].extend([c["runs"][0]] * 10_001),
        lambda c: c["runs"].extend([c["runs"][0] | {"method": f"m{i}"} for i in range(201)]),
    ],
)
def test_what_no_page_can_show_is_refused(change: Any, out: Path) -> None:
    edit(out, change)
    with pytest.raises(ValueError, match=r"results\.json"):
        results.load(out)


def test_odd_values_where_none_matter_do_no_harm(out: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for run, value in zip(content["runs"], HUGE, strict=False):
            run.update(preprocess_seconds=value, selection_seconds=value, steady_seconds=value, trajectory=value)
            run.update(events={"e": value}, settings={"s": value}, class_accuracy=value, control_for=run["control_for"])
        for row in content["summary"]:
            row.update(boost=10**400, noise_pp="x", verdict={"a": 1}, work_ratio=-1e308)
        content["config"].update(epochs=10**400, data={"a": [1]}, methods=[5, ["x"]])

    # 10**400 has too many digits for nothing here: Python prints up to 4300
    edit(out, change)
    assert "<svg" in report.write(out).read_text(encoding="utf-8")


def test_names_are_escaped_and_never_paths(out: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"

    def change(content: dict[str, Any]) -> None:
        content["environment"]["classes"] = [evil + str(i) for i in range(9)] + ["../../../etc/passwd"]
        content["config"]["data"] = evil
        content["config"][evil] = evil
        for run in content["runs"]:
            run["settings"] = {evil: {evil: evil}}
            run["events"] = {evil: 3}
        content["summary"][1]["verdict"] = evil

    edit(out, change)
    before = set(out.rglob("*"))
    page = report.write(out, lambda index: np.zeros((4, 4), np.uint8)).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "{{7*7}}" in page
    assert set(out.rglob("*")) - before == {out / report.page.NAME}


def counts_of(out: Path, rows: int, **columns: Any) -> None:
    whole: dict[str, Any] = {"run": coded("ids-seed0", rows), "method": coded("ids", rows)}
    whole |= {"index": np.arange(rows), "label": np.arange(rows) % 10, "trained": np.arange(rows) % 5} | columns
    pq.write_table(pa.table(whole), out / counts.FILE, compression="zstd")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"index": np.arange(-1, 59)}, "counts from 0"),
        ({"index": pa.nulls(60, pa.int64())}, "rows without an 'index'"),
        ({"trained": np.full(60, np.nan)}, "impossible count"),
        ({"trained": np.full(60, -1)}, "impossible count"),
        ({"trained": np.full(60, 1e300)}, "impossible count"),
        ({"trained": ["5"] * 60}, "has string in the column 'trained'"),
        ({"label": [[1]] * 60}, "has list"),
        ({"method": np.arange(60)}, "in the column 'method'; expected names"),
        ({"method": [{"a": "ids"}] * 60}, "in the column 'method'; expected names"),
        ({"method": ["a"] * 30 + ["z" * 1001] * 30}, "a name of 1,001 bytes"),
        ({"index": np.full(60, 2**63, np.uint64)}, "whole numbers"),
    ],
)
def test_absurd_counts(columns: Any, text: str, out: Path) -> None:
    counts_of(out, 60, **columns)
    with pytest.raises(ValueError, match=text) as caught:
        counts.load_counts(results.load(out))
    assert "counts.parquet" in str(caught.value)


def test_counts_with_more_rows_than_their_bytes_can_hold(out: Path) -> None:
    rows = 5 * 10**6
    counts_of(out, rows, **{name: coded(1, rows) for name in ("index", "label", "trained")})
    with pytest.raises(ValueError, match="claims 5,000,000 rows"):
        counts.load_counts(results.load(out))


def test_many_classes_take_no_longer(out: Path) -> None:
    """Quadratic in the classes, this took an hour."""
    counts_of(out, 300_000, label=np.arange(300_000))
    found = counts.load_counts(results.load(out))
    assert found is not None
    shown = shares.class_table(results.load(out), found)
    assert shown is not None
    assert (len(shown.labels), shown.hidden) == (12, 300_000 - 12)


def test_counts_of_another_data_set_are_named(out: Path) -> None:
    pictures = np.zeros((10, 4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"counts\.parquet names sample \d+, which this data set does not hold"):
        report.write(out, lambda index: pictures[index])


def test_metrics_that_are_none(out: Path) -> None:
    for table in (
        pa.table({"method": ["full"], "control_for": ["x"], "epoch": ["a"], "trained": [1]}),
        pa.table({"method": [["full"]], "control_for": [None], "epoch": [1], "trained": [1]}),
        pa.table({"method": [None], "control_for": [None], "epoch": [1], "trained": [1]}),
    ):
        pq.write_table(table, out / kept_share.FILE)
        with pytest.raises(ValueError, match=r"metrics\.parquet"):
            kept_share.kept_shares(results.load(out))


def test_all_image_formats_are_fuzzed() -> None:
    assert set(IMAGES) == set(decode._FORMATS)


def test_names_that_are_no_text(out: Path) -> None:
    whole = pq.read_table(out / kept_share.FILE)
    strange = pa.array([b"\xad"] * len(whole)).view(pa.string())
    pq.write_table(whole.set_column(whole.column_names.index("method"), "method", strange), out / kept_share.FILE)
    with pytest.raises(ValueError, match=r"metrics\.parquet is not complete Parquet .*utf-8"):
        kept_share.kept_shares(results.load(out))
