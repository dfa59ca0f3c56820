"""Labels that people gave to a training set, beside its clean ones: those of CIFAR-10N, or a file written alike.

Source: Wei et al., Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations, ICLR 2022,
arXiv 2110.12088. N = samples of the training set in use.
"""

import difflib
from pathlib import Path

import torch
from torch import Tensor

from leantrain.data import label_checks
from leantrain.data.datasets import ImageData
from leantrain.utils import untrusted_input
from leantrain.utils.optional_import import require_extra

# What a file may call its columns: as here, or as the file of CIFAR-10N's authors does.
CLEAN = ("clean", "clean_label")
KINDS = {
    "aggregate": ("aggregate", "aggre_label"),
    "random1": ("random1", "random_label1"),
    "random2": ("random2", "random_label2"),
    "random3": ("random3", "random_label3"),
    "worst": ("worst", "worse_label"),
}


def check(name: str) -> str:
    """``name``, such as ``human-worst`` or ``human-worst:FILE``; ValueError where it names no kind of labels."""
    kind, colon, file = name.removeprefix("human-").partition(":")
    if kind not in KINDS or (colon and not file):
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.5)
        hint = f" Did you mean human-{near[0]}?" if near and kind not in KINDS else ""
        raise ValueError(
            f"noise={name} must read noise=human-KIND or noise=human-KIND:FILE, KIND one of {', '.join(KINDS)}.{hint}"
        )
    return name


def read(data: ImageData, name: str) -> Tensor:
    """(N,) int64, the labels that ``name`` (see ``check``) gives to the training set of ``data`` as it was read.

    The file is a Parquet table with a row for each sample of the whole set, in its order, and the columns ``clean`` and
    ``aggregate``, ``random1`` to ``random3`` or ``worst``, or the names of the authors. Not named, it is
    ``labels.parquet`` in the folder of the data, or in the one beside it that has an n after its name: ``cifar10n``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or its clean labels are not those of ``data``.
    """
    kind, _, given = name.removeprefix("human-").partition(":")
    path = Path(given).expanduser() if given else _beside(data, name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file. noise=human-{kind}:FILE expects a Parquet file of labels.")
    clean, human = _columns(path, CLEAN, KINDS[kind])
    size = len(data.targets)
    rows = label_checks.balanced(clean, size) if size < len(clean) else torch.arange(len(clean))
    clean, human = clean[rows], human[rows]
    if len(clean) != size or not torch.equal(clean, data.targets):
        differs = int((clean != data.targets).sum()) if len(clean) == size else None
        how = f"{differs:,} of {size:,} differ" if differs else f"it has {len(clean):,} and the data {size:,}"
        raise ValueError(
            f"{path}: its clean labels are not those of {data.name}: {how}. It needs a row for each sample of the "
            "whole training set, in the same order, and the same numbers for the classes."
        )
    label_checks.check_range(human, data.classes, f"{path}, {kind}")
    return human


def _beside(data: ImageData, name: str) -> Path:
    if data.folder is None:
        raise ValueError(f"{data.name} lies in no folder: say where the labels are, as in noise={name}:FILE.")
    folder = data.folder.resolve()
    places = [folder / "labels.parquet", folder.with_name(f"{folder.name}n") / "labels.parquet"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"noise={name} needs the labels, and neither {places[0]} nor {places[1]} is there. Put the file at one of "
            f"these, or say where it is: noise={name}:FILE."
        )
    return found


def _columns(path: Path, *wanted: tuple[str, ...]) -> list[Tensor]:
    """Columns of integers, each under one of its names."""
    arrow, parquet = require_extra("pyarrow", "train"), require_extra("pyarrow.parquet", "train")
    try:
        with parquet.ParquetFile(path) as file:
            untrusted_input.check_table(path, file.metadata)
            have = file.schema_arrow.names
            names = [next((name for name in choice if name in have), None) for choice in wanted]
            if None in names:
                raise ValueError(f"it lacks the column {wanted[names.index(None)][0]!r}; it has {', '.join(have)}")
            table = file.read(columns=names)
            table.validate(full=True)
            columns = [table[name].cast(arrow.int64()) for name in names]
            nulls = sum(column.null_count for column in columns)
            if nulls:
                raise ValueError(f"{nulls} of its labels are null")
            return [torch.tensor(column.to_pylist(), dtype=torch.int64) for column in columns]
    except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is not a usable file of labels: {error}") from error
