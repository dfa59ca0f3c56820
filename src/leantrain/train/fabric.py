"""Lightning Fabric for a training: on one device, or under ``torchrun`` on one a rank."""

import atexit
import logging
import os
from typing import Any

import torch
import torch.distributed as dist

from leantrain.data import require_extra
from leantrain.train.config import TrainConfig


def fabric_for(config: TrainConfig) -> Any:
    """Lightning Fabric on one device, or under ``torchrun`` on one a rank, with the precision asked for."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' was asked for, and torch sees no CUDA device. Use --device cpu.")
    if config.precision == "fp16" and (config.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("precision='fp16' needs a GPU (its loss scaling does). Use bf16 or fp32 on the CPU.")
    fabric = require_extra("lightning_fabric", "train")
    precision = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[config.precision]
    chatter = logging.getLogger("lightning_fabric")  # it announces the precision of every run
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        if not under_torchrun():
            return fabric.Fabric(accelerator=config.device, devices=1, precision=precision)
        ranks, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        made = fabric.Fabric(
            accelerator=config.device, devices=local, num_nodes=ranks // local, strategy="ddp", precision=precision
        )
        _join_group("nccl" if made.strategy.root_device.type == "cuda" else "gloo")
        made.launch()
        return made
    finally:
        chatter.setLevel(level)


def _join_group(backend: str) -> None:
    """Make the process group before Fabric does, under a name that no earlier start of these ranks had.

    Over restarts torchrun may keep one store, in which the addresses of the ranks that died stay: taken for those of
    their successors, they would end or hang the restarted run.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if not dist.is_initialized():
        store, rank, ranks = next(rendezvous("env://"))
        named = PrefixStore(f"start-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        dist.init_process_group(backend, store=named, rank=rank, world_size=ranks)
        if backend == "nccl":  # torch warns of one that is left
            atexit.register(dist.destroy_process_group)


def under_torchrun() -> bool:
    """Whether this process is one of several that ``torchrun`` started."""
    return dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1
