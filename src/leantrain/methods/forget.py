"""FORGET: drops the samples that a first, short training forgot least. N = size of the data set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leantrain.core.ledger import NEVER, Ledger
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.methods import _sample_inputs
from leantrain.methods._epoch_fraction import check_span, in_whole_epochs
from leantrain.rng import generator
from leantrain.solvers.ranking import highest, ranks
from leantrain.utils import validation


@dataclass(kw_only=True, eq=False)
class Forget(Selector):
    """Trains on the samples with the most forgetting events: right at one presentation, wrong at the next.

    The events come from a probe, a training of its own on everything, after which the model starts from scratch::

        probe = leantrain.wrap(loader, Full())           # 20 epochs, reduce(losses, logits=..., targets=...)
        selector = Forget(events=forgetting_events(probe.ledger))

    Args:
        events: (N,) events of each sample, infinite where it was never learnt; or a callable that is given the number
            of probe epochs, trains the probe and returns them, called when first needed.
        prune_ratio: F, the share of the samples that is dropped, those with the fewest events. 0 keeps everything.
        probe_epochs: what a callable ``events`` is given; a float is a share of the training.

    Cost: the probe, 3 * probe_epochs units a sample, then 3 * (1 - prune_ratio) units a sample and epoch. The subset
    is the same in all epochs. The total time includes the probe.

    Source: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019,
    arXiv 1812.05159; with 20 probe epochs and F = 0.3, the control FORGET of the KAKURENBO paper.

    Differs from Toneva et al.: the probe lasts 20 epochs, not the whole training. Differs from the authors' code:
    Toneva's counts a sample that was never learnt as forgotten at every epoch, which ranks it first too;
    KAKURENBO's counts it as never forgotten and drops it first, which is not what the paper it follows says. Equal
    counts are in random order, both codes leave it to the sort.
    """

    events: Tensor | Callable[[int], Tensor]
    prune_ratio: float = 0.3
    probe_epochs: int | float = 20

    def __post_init__(self) -> None:
        _sample_inputs.check_source(
            "events", self.events, "a (N,) tensor or a callable of the probe epochs that makes one"
        )
        validation.fraction("prune_ratio", self.prune_ratio, zero=True, one=False)
        check_span("probe_epochs", self.probe_epochs, least=1)

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._rank: Tensor | None = None
        if callable(self.events):
            self._probe = in_whole_epochs("probe_epochs", self.probe_epochs, run, "Forget")
        else:
            self._rank = self._make_rank(self.events)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if self._rank is None:
            assert callable(self.events)
            self._rank = self._make_rank(self.events(self._probe))
        return Plan(highest(self._rank, pool, 1 - self.prune_ratio))

    def _make_rank(self, events: Tensor) -> Tensor:
        return ranks(_sample_inputs.numbers("events", events, self.run), generator(self.run.seed, 0, "forget"))

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "events"}

    def state_dict(self) -> dict[str, Any]:
        return {} if self._rank is None else {"rank": self._rank}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rank = state.get("rank")


def forgetting_events(ledger: Ledger) -> Tensor:
    """Forgetting events of each sample after a probe: (N,) float32, infinite where no presentation was right.

    Raises:
        ValueError: the ledger knows of no prediction made in training.
    """
    if bool((ledger.trained_correct == NEVER).all()):
        raise ValueError(
            "The ledger knows of no prediction made in training, so none can be forgotten. Give the probe's: "
            "loader.reduce(losses, logits=logits, targets=targets)."
        )
    learnt = (ledger.forgotten > 0) | (ledger.trained_correct == 1)  # to be forgotten takes being right before
    return ledger.forgotten.float().where(learnt, torch.inf)
