"""FORGET: drops the samples that a first, short training forgot least. N = size of the data set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.ledger import NEVER, Ledger
from leantrain.methods._static_scores import ProbeRanking


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


@dataclass(kw_only=True, eq=False)
class Forget(ProbeRanking):
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

    Differences: on the card, ``docs/methods/forget.md``.
    """

    inputs: ClassVar = {"events": Input("history", forgetting_events)}
    least_epochs = 1

    events: Tensor | Callable[[int], Tensor]
    probe_epochs: int | float = 20
