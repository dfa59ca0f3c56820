"""Samples that cannot be read: named where one stops the run, left out and counted where the run may go on.

N = size of the data set, B = samples of a batch, K = those of them that came through.
"""

import dataclasses
import re
import traceback
import warnings
from collections.abc import Iterable
from multiprocessing import connection
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from leantrain.core.stats import Stats
from leantrain.distributed.ledger_sync import UNREAD, Exchange
from leantrain.loader.batch_sampler import Request
from leantrain.utils.tolerant_reading import culprit, from_worker

Unreadable = Literal["raise", "skip"]

NAMED = 10  # samples that are warned about one by one; more are only counted
LEAST = 100  # samples tried before their unreadable share is judged, or a quarter of a smaller data set
DIED = (
    "A worker process of the DataLoader died. Where the system killed it, memory ran out as a rule: fewer workers or "
    "smaller batches need less. The batch it was reading was not trained on, and what was saved before still holds."
)


class Reading:
    """What becomes of the samples that a run cannot read.

    Args:
        policy: ``"raise"``: the error goes on, and names the sample. ``"skip"``: the sample is left out of its batch.
        loader: the user's.
    """

    def __init__(self, policy: Unreadable, loader: DataLoader[Any], exchange: Exchange, stats: Stats) -> None:
        self.policy, self.loader, self.exchange, self.stats = policy, loader, exchange, stats
        self._tried = torch.zeros(exchange.ledger.size if policy == "skip" else 0, dtype=torch.bool)
        self._lost = self._tried.clone()  # (N,) whether the last trial failed
        self._known: set[int] = set()  # warned about

    def through(self, epoch: int, request: Request, data: Any) -> tuple[Request, Any]:
        """``request`` narrowed to what came through, maybe nothing, with its data.

        Raises:
            OSError: more than half of the samples tried cannot be read; or one of several ranks has nothing at all.
        """
        if self.policy == "raise":
            return request, data
        self._tried[request.indices] = True
        self._lost[request.indices] = False
        if not data.failed:
            return request, data.data
        lost = request.indices[[position for position, _ in data.failed]]
        self._lost[lost] = True
        self.stats.unreadable += len(lost)
        if request.kind in ("score", "refresh"):  # as a loss that is not finite: known, and not selected
            self.exchange.note(UNREAD, epoch, lost, torch.full((len(lost),), torch.nan, dtype=torch.float32))
        self._tell(list(zip(lost.tolist(), (reason for _, reason in data.failed), strict=True)))
        kept = request.indices[torch.tensor(data.positions, dtype=torch.int64)]
        alone = self.exchange.ranks.count == 1
        if not alone and not len(kept):
            raise OSError(
                f"None of the samples {request.indices.tolist()} of rank {self.exchange.ranks.rank} can be read, and "
                "the other ranks cannot take a step without it."
            )
        return dataclasses.replace(request, indices=kept, parts=[kept] if alone else request.parts), data.data

    def parts(self, request: Request) -> list[Tensor]:
        """Of ``request``, what came through on each rank."""
        ranks = self.exchange.ranks
        if self.policy == "raise" or ranks.count == 1:
            return request.parts
        own = request.indices if len(request.parts[ranks.rank]) else request.indices[:0]
        return ranks.gather(own)

    def explain(self, error: Exception, requests: Iterable[Request], source: Any) -> None:
        """Add to ``error``, met while the first of ``requests`` was loaded, what is known: above all, which sample.

        Args:
            source: the DataLoader's iterator. Where a worker of it died, RuntimeError says so in place of ``error``.
        """
        first = next(iter(requests), None)
        if self.loader.num_workers:  # torch's frames hold its iterator in a cycle; collected late, it waits for 10 s
            traceback.clear_frames(error.__traceback__)
        if (dead := _dead(error, source)) is not None:
            death = RuntimeError(f"DataLoader worker (pid {dead}) is no more. {DIED}")
            raise death from error
        if worker_died(error):
            error.add_note(DIED)
        if first is None or worker_died(error):
            return
        indices = first.indices.tolist()
        found = culprit(error, self.loader, indices)
        if found is None:
            error.add_note(f"leantrain: the batch being loaded holds the samples {indices}.")
        else:
            error.add_note(
                f"leantrain: sample {found} (index into the data set) cannot be read. Mend or remove it, or leave such "
                'samples out: unreadable="skip" in wrap().'
            )

    def _tell(self, failed: list[tuple[int, str]]) -> None:
        """Warn of what failed now; OSError when it is too much."""
        for index, reason in failed:
            if index in self._known or len(self._known) == NAMED:
                continue
            self._known.add(index)
            more = "" if len(self._known) < NAMED else " Further ones are only counted, in loader.stats.unreadable."
            warnings.warn(f"Sample {index} cannot be read and is left out: {reason}.{more}", stacklevel=5)
        tried, lost = int(self._tried.sum()), int(self._lost.sum())
        if 2 * lost > tried >= min(LEAST, len(self._tried) / 4):
            index, reason = failed[-1]
            raise OSError(
                f"{lost:,} of the {tried:,} samples tried cannot be read, more than half: this is no matter of single "
                f"samples. The last is sample {index}: {reason}. Is the data set where it was, and whole?"
            )


def worker_died(error: BaseException) -> bool:
    """Whether torch says by ``error`` that a worker process of a DataLoader is no more."""
    return isinstance(error, RuntimeError) and re.match(r"DataLoader worker \(pid", str(error)) is not None


def _dead(error: Exception, source: Any) -> int | None:
    """The process id of the worker whose death shows as ``error``: it is gone while its batch is fetched from it."""
    if not isinstance(error, OSError | EOFError | RuntimeError) or worker_died(error) or from_worker(error):
        return None
    workers = {worker.sentinel: worker for worker in getattr(source, "_workers", [])}
    ended = connection.wait(list(workers), timeout=1) if workers else []
    return workers[ended[0]].pid if ended else None
