"""Private random streams: every draw is a function of (seed, epoch, purpose, number), never of a global generator."""

import hashlib

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, epoch: int, purpose: str, number: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose.

    Being re-derivable from four plain values, it needs no saving: a resumed run and a run with another number of
    workers draw the same numbers. ``number`` counts draws within an epoch, for example original batches.
    """
    key = f"{seed}/{epoch}/{purpose}/{number}".encode()
    value = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
    return torch.Generator().manual_seed(value)


def choose(count: int, keep: int, rng: torch.Generator) -> Tensor:
    """``keep`` of ``count`` positions, uniformly without replacement, in ascending order. Returns (keep,) int64."""
    return torch.from_numpy(chosen(count, keep, rng))


def chosen(count: int, keep: int, rng: torch.Generator) -> np.ndarray:
    """``choose`` as an array; of few, numpy's sort takes half as long as torch's."""
    return np.sort(torch.randperm(count, generator=rng).numpy()[:keep])
