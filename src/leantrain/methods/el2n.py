"""EL2N and GraNd: drop the samples that a young model finds easiest. N = size of the data set, M = of the pool."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.methods import _sample_inputs
from leantrain.methods._epoch_fraction import check_span, in_whole_epochs
from leantrain.rng import generator
from leantrain.solvers.ranking import highest, ranks
from leantrain.utils import validation


@dataclass(kw_only=True, eq=False)
class EL2N(Selector):
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

    scores: Tensor | Callable[[int], Tensor]
    prune_ratio: float = 0.3
    keep: Literal["hard", "easy"] = "hard"
    offset: float = 0.0
    probe_epochs: int | float = 10

    def __post_init__(self) -> None:
        _sample_inputs.check_source(
            "scores", self.scores, "a (N,) tensor or a callable of the probe epochs that makes one"
        )
        validation.fraction("prune_ratio", self.prune_ratio, zero=True, one=False)
        validation.one_of("keep", self.keep, ["hard", "easy"])
        validation.fraction("offset", self.offset, zero=True, one=False)
        check_span("probe_epochs", self.probe_epochs)
        if self.offset > self.prune_ratio:
            raise ValueError(
                f"offset={self.offset} drops more than prune_ratio={self.prune_ratio} in all. It is the part of the "
                "dropped samples that is taken from the hard end: lower it or raise prune_ratio."
            )
        if self.offset and self.keep == "easy":
            raise ValueError(f'offset={self.offset} has no effect with keep="easy", which drops the hard end anyway.')

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._rank: Tensor | None = None
        if callable(self.scores):
            self._probe = in_whole_epochs("probe_epochs", self.probe_epochs, run, type(self).__name__)
        else:
            self._rank = self._make_rank(self.scores)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if self._rank is None:
            assert callable(self.scores)
            self._rank = self._make_rank(self.scores(self._probe))
        return Plan(highest(self._rank, pool, 1 - self.prune_ratio, skip=self.offset))

    def _make_rank(self, scores: Tensor) -> Tensor:
        values = _sample_inputs.numbers("scores", scores, self.run)
        rng = generator(self.run.seed, 0, type(self).__name__.lower())
        return ranks(values if self.keep == "hard" else -values, rng)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings().items() if name != "scores"}

    def state_dict(self) -> dict[str, Any]:
        return {} if self._rank is None else {"rank": self._rank}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rank = state.get("rank")


@dataclass(kw_only=True, eq=False)
class GraNd(EL2N):
    """Trains on the samples with the largest gradient norm, by default that of the model as initialised.

    Args:
        scores: as EL2N's, from ``embed.grand_scores(model, loader)``.
        probe_epochs: 0 scores before any training.

    Cost: the probes, and a forward and backward pass a sample for each, one sample at a time inside ``vmap``; else as
    EL2N. Source: as EL2N.

    Did not reproduce: Kirsch, "Does 'Deep Learning on a Data Diet' reproduce? Overall yes, but GraNd at Initialization
    does not", 2023, arXiv 2303.14753, finds that GraNd at initialisation follows the norm of the input and prunes
    no better than chance, and that the library used for the paper had a bug in restoring checkpoints. After some
    epochs GraNd does rank usefully, and so does EL2N, which is cheaper: pass ``probe_epochs`` of 10 or more.

    Differs from the paper: as EL2N; the gradient is over the trainable parameters.
    """

    probe_epochs: int | float = 0
