"""Runs a function on several ranks: forked processes that share a gloo group."""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

HANGS = 90.0  # seconds after which ranks that still run are said to hang
LONG = 240.0  # the same for those that run many trainings, one after the other


def on_ranks(count: int, function: Callable[..., Any], *args: Any, seconds: float = HANGS) -> list[Any]:
    """What ``function(*args)`` gives on each of ``count`` ranks; an exception comes back as its text.

    Raises:
        TimeoutError: ranks still run after ``seconds``.
    """
    context = multiprocessing.get_context("fork")  # the test's functions and arguments need no pickling
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        children = [
            context.Process(target=_run, args=(rank, count, folder, pipes[rank][1], function, args))
            for rank in range(count)
        ]
        for child in children:
            child.start()
        for _, theirs in pipes:
            theirs.close()
        found: dict[int, Any] = {}
        end = time.monotonic() + seconds
        try:
            while len(found) < count:
                waiting = {ours: rank for rank, (ours, _) in enumerate(pipes) if rank not in found}
                ready = wait(list(waiting), timeout=max(0.0, end - time.monotonic()))
                if not ready:
                    raise TimeoutError(f"Ranks {sorted(waiting.values())} of {count} still run after {seconds} s.")
                for ours in ready:
                    rank = waiting[ours]  # pyright: ignore[reportArgumentType]
                    try:
                        found[rank] = pickle.loads(pipes[rank][0].recv_bytes())
                    except EOFError:
                        found[rank] = "died"
        finally:
            for child in children:
                child.kill() if len(found) < count else None
                child.join()
    return [found[rank] for rank in range(count)]


def started_by_torchrun() -> None:
    """Tell the frameworks what ``torchrun`` would. Only for processes that end with the test."""
    rank, count = str(dist.get_rank()), str(dist.get_world_size())
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0", "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update(ranks, MASTER_ADDR="127.0.0.1", MASTER_PORT="29500", TORCHELASTIC_RUN_ID="test")


def _run(rank: int, count: int, folder: str, pipe: Connection, function: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)  # threads do not survive the fork
    store = dist.FileStore(os.path.join(folder, "store"), count)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=timedelta(seconds=60))
    try:
        given = function(*args)
    except Exception as error:
        given = f"{type(error).__name__}: {error}"
        if "connection" not in given.lower():
            traceback.print_exc()
    pipe.send_bytes(pickle.dumps(given))  # copies tensors, where send() would share memory that ends with the process
    pipe.close()
    if not isinstance(given, str):
        dist.destroy_process_group()
    os._exit(0)  # nothing of pytest's own end of process
