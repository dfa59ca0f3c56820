"""What is known of a data set without reading it: its labels, and what names it. N = its size."""

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset


def labels(dataset: Any, targets: Any, size: int) -> Tensor | None:
    """(N,) int64 class labels: those given; else the data set's own, through ``Subset``; else None."""
    given = targets is not None
    targets = targets if given else _own_labels(dataset)
    if targets is None:
        return None
    try:
        found = torch.as_tensor(targets).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        if not given:  # boxes, masks, texts: not class labels
            return None
        raise TypeError(f"targets must be one class label a sample, as integers: {error}") from error
    if found.shape != (size,) or found.is_floating_point() or found.is_complex():
        if not given:
            return None
        raise ValueError(
            f"targets have shape {tuple(found.shape)} and type {found.dtype}; expected one integer class label "
            f"for each of the {size} samples."
        )
    return found.long()


def fingerprint(dataset: Any) -> str:
    """Names a data set: its own ``fingerprint`` where it has one, else a hash of its length and its own labels.

    Pictures that changed under the same labels go unseen by the latter; items are not read, they may be augmented.
    """
    if own := getattr(dataset, "fingerprint", None):
        return str(own)
    found = labels(dataset, None, len(dataset))
    content = b"" if found is None else found.numpy().tobytes()
    return hashlib.blake2b(f"{len(dataset)}/".encode() + content, digest_size=16).hexdigest()


def _own_labels(dataset: Any) -> Any:
    if isinstance(dataset, Subset):
        inner = _own_labels(dataset.dataset)
        return None if inner is None else [inner[i] for i in dataset.indices]
    for name in ("targets", "labels"):
        if getattr(dataset, name, None) is not None:
            return getattr(dataset, name)
    return None
