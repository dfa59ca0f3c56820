"""Small data sets, loss tables and loops that the tests share."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leantrain import (
    IDS,
    RPC,
    RPD,
    RS2,
    SB,
    Adonis,
    Full,
    InfoBatch,
    Ledger,
    Loader,
    Run,
    Selector,
    StaleSB,
    wrap,
)

SIZE, CLASSES = 40, 4


class Numbers(Dataset):
    """Sample i is (i, its label). Counts what is read (in this process)."""

    def __init__(self, size: int = SIZE) -> None:
        self.targets = [(3 * i + i // 5) % CLASSES for i in range(size)]
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[int, int]:
        self.reads.append(int(index))
        return int(index), self.targets[index]


def embedding(size: int = SIZE, width: int = 3) -> Tensor:
    return torch.randn(size, width, generator=torch.Generator().manual_seed(5))


METHODS: dict[str, Callable[[], Selector]] = {
    "full": Full,
    "rpc": lambda: RPC(keep_ratio=0.6),
    "rpd": lambda: RPD(keep_ratio=0.6),
    "rs2": lambda: RS2(keep_ratio=0.4),
    "infobatch": InfoBatch,
    "ids": lambda: IDS(features=embedding(), keep_ratio=0.6, switch_epoch=2),
    "adonis": lambda: Adonis(theta="auto"),
    "stale adonis": lambda: Adonis(theta="auto", stale_epochs=3),
    "sb": lambda: SB(beta=1.0),
    "stale-sb": lambda: StaleSB(beta=1.0),
    "ids|adonis": lambda: IDS(features=embedding(), switch_epoch=2) | Adonis(theta="auto", stale_epochs=2),
    "infobatch|rs2": lambda: InfoBatch() | RS2(keep_ratio=0.8),
    "rpd|stale-sb": lambda: RPD(keep_ratio=0.8) | StaleSB(beta=1.0, start_epoch=0),
}


def losses_at(epoch: int, indices: Tensor) -> Tensor:
    """A made-up loss of every sample that changes from epoch to epoch."""
    table = torch.rand(1000, generator=torch.Generator().manual_seed(100 + epoch)) * 3
    return table[indices]


def wrapped(selector: Selector, dataset: Any = None, *, batch_size: int = 4, **options: Any) -> Loader:
    """A wrapped loader over ``Numbers`` whose scores are ``losses_at``; ``options`` go to wrap and DataLoader."""
    known = ("score", "epochs", "targets", "seed", "nonfinite")
    ours = {name: options.pop(name) for name in known if name in options}
    if "batch_sampler" not in options:
        options["batch_size"] = batch_size
    plain = DataLoader(Numbers() if dataset is None else dataset, **options)

    def score(batch: Any) -> Tensor:
        return losses_at(clock[0]().epoch, batch[0])

    clock: list[Any] = []
    loader = wrap(plain, selector, **({"epochs": 6, "score": score} | ours))
    clock.append(weakref.ref(loader))  # a cycle would keep the workers of finished tests alive
    return loader


def run_epoch(loader: Loader) -> list[list[int]]:
    """One epoch that reports ``losses_at``: the indices of each training batch."""
    given = []
    for _ in loader:
        given.append(loader.indices.tolist())
        loader.reduce(losses_at(loader.epoch, loader.indices))
    return given


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


def setup(selector: Selector, *, size: int = SIZE, **facts: Any) -> Selector:
    """A selector told of a run, with no loader around it."""
    facts = {"batch_size": 4, "epochs": 10, "seed": 0, "ledger": Ledger(size)} | facts
    selector.setup(Run(size=size, **facts))
    return selector
