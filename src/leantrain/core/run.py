"""What a selector is told of the run it serves. N = size of the data set, M = samples that the sampler can give."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from leantrain.core.ledger import Ledger

Goal = Literal["balanced", "as-trained"]


@dataclass(slots=True)
class Run:
    """What a selector is told of the run it serves.

    Args:
        size: N, the number of samples.
        batch_size: samples in a training batch (rho), over all ranks.
        epochs: length of the training, or None when ``wrap`` was not told. Where it was told in steps, as many as they
            will come to by what is known; it is worked out anew before each epoch.
        seed: seed of every private random stream.
        ledger: the per-sample facts, shared by all selectors of the run.
        targets: (N,) int64 class labels, or None when unknown.
        fingerprint: names the data set, so that a ranking made for another one is refused.
        writes: whether this process is the one of several ranks that writes files.
        drop_last: whether the DataLoader leaves out a last batch that is short.
        pool: (M,) int64, ascending: the samples that the user's sampler can give. None where that is all, or where
            only drawing tells.
        goal: what the model is for: ``"balanced"``, accuracy that counts each class the same, or ``"as-trained"``,
            over classes as frequent as in training; None when ``wrap`` was not told.
        dataset: the user's, for what can be known of it without loading samples one by one.
    """

    size: int
    batch_size: int
    epochs: float | None
    seed: int
    ledger: Ledger
    targets: Tensor | None = None
    fingerprint: str = ""
    writes: bool = True
    drop_last: bool = False
    pool: Tensor | None = None
    goal: Goal | None = None
    dataset: Any = None

    @property
    def where(self) -> Tensor | slice:
        """Index of the samples that the user's sampler can give: ``values[run.where]`` are (M, ...) of (N, ...)."""
        return slice(None) if self.pool is None else self.pool

    @property
    def count(self) -> int:
        """M."""
        return self.size if self.pool is None else len(self.pool)

    def need_epochs(self, who: str) -> float:
        """The length of the training; a ValueError that says how to give it when unknown."""
        if self.epochs is None:
            raise ValueError(
                f"{who} depends on the length of the training. Pass it: wrap(loader, ..., epochs=90), or steps=."
            )
        return self.epochs

    def need_goal(self, who: str) -> Goal:
        """The goal; a ValueError that says how to give it when unknown."""
        if self.goal is None:
            raise ValueError(
                f"{who} changes how often the classes come, which helps one goal and harms the other. Say yours: "
                'wrap(loader, ..., goal="balanced") where each class counts the same, goal="as-trained" where classes '
                "will be as frequent as in training."
            )
        return self.goal

    def batches(self, samples: Tensor) -> tuple[Tensor, ...]:
        """``samples`` (M,) cut into batches; with ``drop_last`` without a short last one, unless it is the only one."""
        cut = samples.split(self.batch_size)
        return cut[:-1] if self.drop_last and len(cut) > 1 and len(cut[-1]) < self.batch_size else cut

    def need_targets(self, who: str) -> Tensor:
        """(N,) class labels; a ValueError that says how to give them when unknown."""
        if self.targets is None:
            raise ValueError(
                f"{who} works class by class, and no labels were found: the data set has no `targets` or `labels`. "
                "Pass one label a sample: wrap(loader, ..., targets=labels)."
            )
        return self.targets
