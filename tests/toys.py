"""Small data sets, loss tables and loops that the tests share."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leantrain import (
    EL2N,
    IDS,
    IES,
    ISWR,
    RPC,
    RPD,
    RS2,
    SB,
    SSP,
    Adonis,
    ClassCap,
    ClassFloor,
    ComposerSB,
    Distinct,
    Forget,
    Full,
    GradMatch,
    GradMatchPB,
    GraNd,
    InfoBatch,
    Kakurenbo,
    Ledger,
    Loader,
    OrderDP,
    RandomPB,
    RHOLoss,
    Run,
    Selector,
    SeTa,
    StaleSB,
    wrap,
)
from leantrain.embed import Gradients

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


def made_gradients(size: int = SIZE) -> Gradients:
    """Last-layer gradients of a model that knows nothing, on features that mean nothing."""
    logits = torch.randn(size, CLASSES, generator=torch.Generator().manual_seed(6))
    labels = torch.nn.functional.one_hot(torch.tensor(Numbers(size).targets), CLASSES)
    return Gradients(logits.softmax(dim=1) - labels, embedding(size))


def events(size: int = SIZE) -> Tensor:
    return torch.arange(size).float() % 7


def repeats(size: int = SIZE) -> Tensor:
    """Groups of samples of one class: those of class 0 stand alone, of the others there are three groups each."""
    targets = torch.tensor(Numbers(size).targets)
    return torch.where(targets == 0, 20 + torch.arange(size), targets + 4 * (torch.arange(size) // 14))


OWN_ORDER = ("iswr", "random-pb", "grad-match-pb")  # these fix the order of their samples, so no custom sampler may

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
    "adonis recycled": lambda: Adonis(theta="auto", score="recycle", max_age=2),
    "sb recycled": lambda: SB(beta=1.0, score="recycle", refresh="train", max_age=1),
    "composer-sb": lambda: ComposerSB(start=0.0, end=0.9, interrupt=2),
    "rho-loss": lambda: RHOLoss(holdout_losses=embedding()[:, 0], keep_ratio=0.5, scoring_batches=3),
    "random-pb": lambda: RandomPB(keep_ratio=0.5),
    "seta": lambda: SeTa(prune_ratio=0.2, groups=4, window=0.8),
    "orderdp": lambda: OrderDP(keep_ratio=0.5),
    "kakurenbo": lambda: Kakurenbo(fraction=0.5, move_back=False),
    "iswr": lambda: ISWR(unbiased=True),
    "ies": lambda: IES(threshold=1.5, window=1),
    "ssp": lambda: SSP(features=embedding(), keep_ratio=0.6),
    "forget": lambda: Forget(events=events(), prune_ratio=0.4),
    "el2n": lambda: EL2N(scores=events(), prune_ratio=0.4),
    "grand": lambda: GraNd(scores=events(), prune_ratio=0.4),
    "grad-match": lambda: GradMatch(gradients=made_gradients(), keep_ratio=0.4, select_every=2),
    "grad-match-pb": lambda: GradMatchPB(gradients=made_gradients(), keep_ratio=0.4, select_every=2),
    "distinct": lambda: Distinct(groups=repeats()),
    "adonis half-life": lambda: Adonis(theta="auto", half_life=2.0, scoring_batches=2),
    "ids several": lambda: IDS(features=embedding(), keep_ratio=0.6, switch_epoch=(2, 4), prototypes=2),
    "class floor": lambda: ClassFloor(StaleSB(beta=3.0), 0.4),
    "ids|adonis": lambda: IDS(features=embedding(), switch_epoch=2) | Adonis(theta="auto", stale_epochs=2),
    "orderdp|ies": lambda: OrderDP(keep_ratio=0.9, subset_ratio=0.95) | IES(threshold=1.5, window=1),
    "infobatch|rs2": lambda: InfoBatch() | RS2(keep_ratio=0.8),
    "distinct|class-cap": lambda: Distinct(groups=repeats()) | ClassCap(cap=1.5),
    "distinct|class-cap|infobatch": lambda: Distinct(groups=repeats()) | ClassCap(cap=3) | InfoBatch(),
    "rpd|stale-sb": lambda: RPD(keep_ratio=0.8) | StaleSB(beta=1.0, start_epoch=0),
}

SETTINGS = ("adonis recycled", "sb recycled", "adonis half-life", "ids several", "stale adonis")
EACH_METHOD = [  # once each, for tests that take their time; other settings and compositions are slow tests
    pytest.param(name, marks=pytest.mark.slow) if name in SETTINGS or "|" in name else name for name in METHODS
]
# One for each way in which batches come about: in a planned order, also refreshed, judged anew or by stored losses,
# gathered, judged several at a time, planned whole, drawn. The other methods take the same ways.
WAYS = ("infobatch", "kakurenbo", "adonis", "stale-sb", "composer-sb", "rho-loss", "grad-match-pb", "iswr")
EACH_WAY = [name if name in WAYS else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


def losses_at(epoch: int, indices: Tensor) -> Tensor:
    """A made-up loss of every sample that changes from epoch to epoch."""
    table = torch.rand(1000, generator=torch.Generator().manual_seed(100 + epoch)) * 3
    return table[indices]


def wrapped(selector: Selector, dataset: Any = None, *, batch_size: int = 4, **options: Any) -> Loader:
    """A wrapped loader over ``Numbers`` whose scores are ``losses_at``; ``options`` go to wrap and DataLoader."""
    known = ("score", "epochs", "targets", "seed", "nonfinite", "unreadable", "goal")
    ours = {name: options.pop(name) for name in known if name in options}
    if "batch_sampler" not in options:
        options["batch_size"] = batch_size
    plain = DataLoader(Numbers() if dataset is None else dataset, **options)

    def score(batch: Any) -> Tensor:
        return losses_at(clock[0]().epoch, batch[0])

    clock: list[Any] = []
    loader = wrap(plain, selector, **({"epochs": 6, "score": score, "goal": "balanced"} | ours))
    assert loader.lr_factor == 1  # who reads it is not warned that nobody does
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
    facts = {"batch_size": 4, "epochs": 10, "seed": 0, "ledger": Ledger(size), "goal": "balanced"} | facts
    selector.setup(Run(size=size, **facts))
    return selector
