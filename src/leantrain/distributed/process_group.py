"""The processes of one training: how many there are, which one this is, and what they tell one another.

W = number of ranks. Messages go over a gloo group of their own, on the CPU and in pieces of bounded size: they work
beside NCCL and never mix with the gradients'.
"""

import hashlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PIECE = 2**20  # numbers sent at once


class Ranks:
    """All processes of the training.

    Every method but ``share`` is collective: it waits until all ranks called it.

    Attributes:
        count: W; 1 without ``torch.distributed``.
        rank: of this process, from 0.
    """

    def __init__(self) -> None:
        self.count, self.rank = world(), dist.get_rank() if world() > 1 else 0
        self._made: Any = None

    @property
    def _group(self) -> Any:
        """Made when it is first needed: until then a rank may fail on its own."""
        self._made = self._made or dist.new_group(backend="gloo")
        return self._made

    def share(self, whole: Tensor) -> Tensor:
        """This rank's part of ``whole`` (n,): the parts follow one another and differ by one in length at most."""
        return whole.tensor_split(self.count)[self.rank]

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is True on any rank."""
        if self.count == 1:
            return flag
        raised = torch.tensor([int(flag)])
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self._group)
        return bool(raised)

    def same(self, *tensors: Tensor) -> bool:
        """Whether all ranks hold equal ``tensors``."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(digest_size=8)
        for tensor in tensors:
            digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.contiguous().numpy().data)
        mine = torch.frombuffer(bytearray(digest.digest()), dtype=torch.int64)
        theirs = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(theirs, mine, group=self._group)
        return all(torch.equal(mine, other) for other in theirs)

    def first(self, tensor: Tensor) -> Tensor:
        """Rank 0's ``tensor`` (n,) on all ranks; n may differ, the type may not."""
        if self.count == 1:
            return tensor
        length = torch.tensor([len(tensor)])
        dist.broadcast(length, 0, group=self._group)
        given = tensor.clone() if self.rank == 0 else tensor.new_empty(int(length))
        for piece in given.split(PIECE):
            dist.broadcast(piece, 0, group=self._group)
        return given

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's ``tensor`` (n, ...), in the order of the ranks; n may differ, type and other sizes may not."""
        if self.count == 1:
            return [tensor]
        lengths = [torch.empty(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor([len(tensor)]), group=self._group)
        pieces: list[list[Tensor]] = [[] for _ in lengths]
        for start in range(0, int(max(lengths)), PIECE):
            piece = tensor[start : start + PIECE]
            sent = tensor.new_zeros((min(PIECE, int(max(lengths)) - start), *tensor.shape[1:]))
            sent[: len(piece)] = piece
            received = [torch.empty_like(sent) for _ in lengths]
            dist.all_gather(received, sent, group=self._group)
            for rank, length in enumerate(lengths):
                pieces[rank].append(received[rank][: max(0, int(length) - start)])
        return [torch.cat([tensor[:0], *received]) for received in pieces]


def world() -> int:
    """How many ranks there are now; 1 before ``torch.distributed`` is initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
