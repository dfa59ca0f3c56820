"""Features kept on disk, one safetensors file for each data set and extractor. N samples, B of a batch, D features."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from leantrain.embed.features import Features
from leantrain.utils.atomic_write import write_whole

log = logging.getLogger("leantrain")

TOLERANCE = 1e-3  # of the largest feature: what another device or batch size may round differently


def cached(
    folder: Path, key: tuple[str, ...], size: int, first: tuple[Tensor, Tensor], make: Callable[[], Features]
) -> Features:
    """The features kept in ``folder`` under ``key``, or those that ``make`` makes, which are kept if they are whole.

    Args:
        folder: made when needed.
        key: all that names the data set and the extractor; ``key[0]`` is the data set's fingerprint.
        size: N, of the data set.
        first: (B,) places of some samples and their (B, D) features, made just now, that the kept ones must agree with.
        make: makes all of them.
    """
    path = folder / f"{hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()}.safetensors"
    if path.exists():
        try:
            kept = Features.load(path)
            kept.check_fingerprint(key[0])
            check_same(kept.values, size, *first)
            return kept
        except ValueError as error:
            log.warning("Cached features %s are made again: %s", path, error)
    made = make()
    if not made.lost:
        write_whole(path, made.save)
    return made


def check_same(kept: Tensor, size: int, places: Tensor, fresh: Tensor) -> None:
    """ValueError unless ``kept`` is (N, D) and its rows at ``places`` (B,) are ``fresh`` (B, D), up to rounding."""
    fresh = fresh.float().cpu()
    if kept.shape != (size, fresh.shape[1]):
        raise ValueError(f"They have shape {tuple(kept.shape)}; expected ({size}, {fresh.shape[1]}).")
    tolerance = TOLERANCE * float(fresh.abs().max())
    if not torch.allclose(kept[places].float(), fresh, rtol=0, atol=tolerance, equal_nan=True):
        raise ValueError("The first batch now gives others. Did the preprocessing or the data change?")
