"""Batches as ``default_collate`` makes them: taking rows of one, joining several, moving one to a device.

A batch is any nesting of dicts, lists, tuples and named tuples. Its leaves are tensors whose first dimension is the
batch, or lists of strings or bytes, one a sample (the only leaves that ``default_collate`` does not turn into tensors).
"""

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor


def take(batch: Any, positions: Tensor) -> Any:
    """The batch made of the rows ``positions`` (K,) int64 of ``batch``."""
    return _map(lambda leaf: leaf[positions] if isinstance(leaf, Tensor) else _pick(leaf, positions), [batch])


def split(batch: Any, rows: int) -> list[Any]:
    """``batch`` cut into ones of ``rows`` rows, the last one of what is left; whole where it has no rows to count."""
    whole = size(batch)
    if whole is None or whole <= rows:
        return [batch]
    return [_map(lambda leaf, at=at: leaf[at : at + rows], [batch]) for at in range(0, whole, rows)]


def join(batches: list[Any]) -> Any:
    """One batch of all the rows of ``batches``, in order."""
    if len(batches) == 1:
        return batches[0]
    return _map(
        lambda *leaves: torch.cat(leaves) if isinstance(leaves[0], Tensor) else sum(leaves, type(leaves[0])()),
        batches,
    )


def to(batch: Any, device: torch.device | str | None) -> Any:
    """``batch`` with its tensors on ``device``; everything else as it is."""
    if device is None:
        return batch
    return _map(lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf, [batch])


def pin(batch: Any) -> Any:
    """``batch`` with its tensors in page-locked memory."""
    return _map(lambda leaf: leaf.pin_memory() if isinstance(leaf, Tensor) else leaf, [batch])


def resize(batch: Any, factor: float, multiple: int = 1) -> Any:
    """``batch`` with its images, the (B, C, H, W) tensors, resized by ``factor``; everything else as it is.

    Sides are rounded to a ``multiple``, and are at least one; the full side stays as it is.
    """
    if factor == 1:
        return batch
    return _map(lambda leaf: _resized(leaf, factor, multiple) if _are_images(leaf) else leaf, [batch])


def pixels(batch: Any) -> int:
    """Of the images of ``batch``, the (B, C, H, W) tensors, all together; 0 without any."""
    found: list[int] = []
    _map(lambda leaf: found.append(leaf[:, 0].numel()) if _are_images(leaf) else None, [batch])
    return sum(found)


def sides(batch: Any) -> set[tuple[int, int]]:
    """(height, width) of the images of ``batch``, the (B, C, H, W) tensors, each once."""
    found: set[tuple[int, int]] = set()
    _map(lambda leaf: found.add((leaf.shape[2], leaf.shape[3])) if _are_images(leaf) else None, [batch])
    return found


def channels_last(batch: Any) -> Any:
    """``batch`` with its images, the (B, C, H, W) tensors, laid out channels last; everything else as it is."""
    form = torch.channels_last
    return _map(
        lambda leaf: leaf.contiguous(memory_format=form) if _are_images(leaf) else leaf,
        [batch],
    )


def size(batch: Any) -> int | None:
    """Rows of the first tensor in ``batch``; None without any."""
    lengths: list[int] = []
    _map(lambda leaf: lengths.append(len(leaf)) if isinstance(leaf, Tensor) and leaf.ndim else None, [batch])
    return lengths[0] if lengths else None


def _are_images(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim == 4


def _resized(images: Tensor, factor: float, multiple: int) -> Tensor:
    sides = [max(multiple, round(side * factor / multiple) * multiple) for side in images.shape[2:]]
    direct = images.dtype == torch.float32 or (images.dtype == torch.uint8 and images.device.type == "cpu")
    smaller = torch.nn.functional.interpolate(
        images if direct else images.float(), sides, mode="bilinear", antialias=True
    )
    if direct or images.is_floating_point():
        return smaller.to(images.dtype)
    return smaller.round().to(images.dtype)


def _pick(leaf: Any, positions: Tensor) -> Any:
    return type(leaf)(leaf[i] for i in positions.tolist()) if isinstance(leaf, list | tuple) else leaf


def _map(function: Callable[..., Any], batches: list[Any]) -> Any:
    """``function`` of the leaves that stand at the same place in each of ``batches``, in the same nesting."""
    first = batches[0]
    if isinstance(first, Mapping):
        mapped = {key: _map(function, [batch[key] for batch in batches]) for key in first}
        if not isinstance(first, MutableMapping):
            return type(first)(mapped)  # pyright: ignore[reportCallIssue]
        clone = copy.copy(first)  # keeps what a constructor may not take, such as a default factory
        clone.update(mapped)
        return clone
    if _is_leaf(first):
        return function(*batches)
    children = [_map(function, list(group)) for group in zip(*batches, strict=True)]
    return type(first)(*children) if hasattr(first, "_fields") else type(first)(children)


def _is_leaf(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return True
    return len(value) > 0 and all(isinstance(item, str | bytes) for item in value)
