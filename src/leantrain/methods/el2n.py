"""EL2N and GraNd: drop the samples that a young model finds easiest. N = size of the data set, M = of the pool."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.plan import Plan
from leantrain.embed.difficulty import el2n_scores, grand_scores
from leantrain.methods._static_scores import ProbeRanking
from leantrain.solvers.ranking import highest
from leantrain.utils.validation import ShareBelowOne


@dataclass(kw_only=True, eq=False)
class EL2N(ProbeRanking):
    """Trains on the samples with the largest error norm ||p - y|| a few epochs into a training.

    The scores come from one or more probes, trainings of their own on everything; the model then starts from scratch::

        selector = EL2N(scores=embed.el2n_scores(probe_model, loader))   # better: the mean over several seeds

    Args:
        scores: (N,) score of each sample, or a callable that is given the number of probe epochs, trains the probe
            and returns them, called when first needed.
        prune_ratio: share of the samples that is dropped. 0 keeps everything.
        keep: ``"hard"`` keeps the high scores, ``"easy"`` the low ones.
        offset: share of the samples, those with the highest scores, that is dropped first: with wrong labels in the
            data they are what scores highest (section 4 of the paper). At most ``prune_ratio``.
        probe_epochs: what a callable ``scores`` is given; a float is a share of the training.

    Cost: the probes, 3 * probe_epochs units a sample each, and a forward pass; then 3 * (1 - prune_ratio) units a
    sample and epoch. The subset is the same in all epochs.

    Source: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021,
    arXiv 2107.07075.

    Differs from the paper: one probe by default, the paper averages the scores of ten; that is the caller's to do.
    Differs from the authors' code: equal scores are in random order, there the sort decides; ``offset`` is a share.
    """

    inputs: ClassVar = {"scores": Input("scores", el2n_scores)}

    scores: Tensor | Callable[[int], Tensor]
    keep: Literal["hard", "easy"] = "hard"
    offset: ShareBelowOne = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.offset > self.prune_ratio:
            raise ValueError(
                f"offset={self.offset} drops more than prune_ratio={self.prune_ratio} in all. It is the part of the "
                "dropped samples that is taken from the hard end: lower it or raise prune_ratio."
            )
        if self.offset and self.keep == "easy":
            raise ValueError(f'offset={self.offset} has no effect with keep="easy", which drops the hard end anyway.')

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return Plan(highest(self.static_scores(), pool, 1 - self.prune_ratio, skip=self.offset))

    def scores_of(self, given: Tensor) -> Tensor:
        return super().scores_of(given if self.keep == "hard" else -given)


@dataclass(kw_only=True, eq=False)
class GraNd(EL2N):
    """Trains on the samples with the largest gradient norm, by default that of the model as initialised.

    Args:
        scores: as EL2N's, from ``embed.grand_scores(model, loader)``.
        probe_epochs: 0 scores before any training.

    Cost: the probes, and a forward and backward pass a sample for each, one sample at a time inside ``vmap``; else as
    EL2N. Source: as EL2N.

    Did not reproduce at initialisation, where it prunes no better than chance: Kirsch, 2023, arXiv 2303.14753. Pass
    ``probe_epochs`` of 10 or more; see docs/methods/el2n.md.

    Differs from the paper: as EL2N; the gradient is over the trainable parameters.
    """

    inputs: ClassVar = {"scores": Input("scores", partial(grand_scores, chunk_size=32))}

    probe_epochs: int | float = 0
