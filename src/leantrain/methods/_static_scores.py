"""Bases of methods that go by one number a sample, worked out once from what the method is given.

N = size of the data set, D = features of a sample, M = samples that the user's sampler can give.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.embed.features import Features
from leantrain.methods._epoch_fraction import check_span, in_whole_epochs
from leantrain.rng import generator
from leantrain.solvers.ranking import highest, ranks
from leantrain.utils.validation import ShareBelowOne

Rows = Tensor | Features | Callable[[], Tensor | Features]
Numbers = Tensor | Callable[[], Tensor]
EXPECTED = {
    "features": "a (N, D) tensor, Features or a callable that makes one",
    "holdout": "a (N,) tensor or a callable that makes one",
    "history": "a (N,) tensor or a callable of the probe epochs that makes one",
    "scores": "a (N,) tensor or a callable of the probe epochs that makes one",
}


@dataclass(kw_only=True, eq=False)
class StaticScores(Selector):
    """Base of methods whose scores are made once, of their only input: at the start, or of a callable when needed.

    Only of the samples that the user's sampler can give, and anew where it comes to give others.

    A subclass says in ``scores_of`` how, where the input's numbers are not the scores themselves.

    Attributes:
        scored: what the scores are, in a word; ``state_dict`` keeps them under it.
    """

    scored: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        (name, given), value = next(iter(self.inputs.items())), self._source()
        if not isinstance(value, Tensor | Features) and not callable(value):
            raise TypeError(f"{name} must be {EXPECTED[given.kind]}, not {type(value).__name__}.")

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._scores: Tensor | None = None
        self._pool: Tensor | None = None  # that the scores are known to cover
        if not callable(self._source()):
            self.static_scores()

    def static_scores(self) -> Tensor:
        """(N,), made by the first call; NaN or -1 for samples that the user's sampler cannot give."""
        run, where = self.run, self.run.where
        if self._scores is None or (run.pool is not self._pool and not _known(self._scores[where])):
            (name, given), value = next(iter(self.inputs.items())), self._source()
            facts = self._call(value) if callable(value) else value
            values = (rows if given.kind == "features" else numbers)(name, facts, run)
            self._scores = spread(self.scores_of(values[where]), run)
        self._pool = run.pool
        return self._scores

    def scores_of(self, given: Tensor) -> Tensor:
        """(M,) scores of the samples ``run.where`` from their input, (M, D) or (M,) float32."""
        return given

    def _source(self) -> Any:
        return getattr(self, next(iter(self.inputs)))

    def _call(self, source: Callable[..., Any]) -> Any:
        return source()

    def distances(self) -> Tensor | None:
        return self._scores if self.scored == "distance" else None

    def state_dict(self) -> dict[str, Any]:
        return {} if self._scores is None else {self.scored: self._scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scores = state.get(self.scored)


@dataclass(kw_only=True, eq=False)
class ProbeRanking(StaticScores):
    """Base of methods that rank by what a probe tells, a short training, and drop the low end for good."""

    scored = "rank"
    least_epochs: ClassVar[int] = 0  # of a probe

    prune_ratio: ShareBelowOne = 0.3
    probe_epochs: int | float = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_span("probe_epochs", self.probe_epochs, least=self.least_epochs)

    def setup(self, run: Run) -> None:
        if callable(self._source()):
            self._probe = in_whole_epochs("probe_epochs", self.probe_epochs, run, type(self).__name__)
            if run.epochs is not None:
                self.check_probe(run.epochs)
        super().setup(run)

    def check_probe(self, epochs: float) -> None:
        """Warn where the probe would last no shorter than the training, of ``epochs``. A share is taken as meant."""
        if isinstance(self.probe_epochs, int) and self.probe_epochs >= epochs:
            who = type(self).__name__
            warnings.warn(
                f"{who} with probe_epochs={self.probe_epochs} trains its probe for {self.probe_epochs} epochs before a "
                f"training of {epochs:g}, which cannot pay. Give fewer, or a share of the training: probe_epochs=0.2.",
                stacklevel=2,
            )

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        return Plan(highest(self.static_scores(), pool, 1 - self.prune_ratio))

    def scores_of(self, given: Tensor) -> Tensor:
        return ranks(given, generator(self.run.seed, 0, type(self).__name__.lower()))

    def _call(self, source: Callable[..., Any]) -> Any:
        return source(self._probe)


def rows(name: str, values: Any, run: Run) -> Tensor:
    """(N, D) float32 on the CPU, one finite row a sample that the sampler can give; ValueError for anything else."""
    if isinstance(values, Features):
        values.check_fingerprint(run.fingerprint)
        values = values.values
    if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != run.size:
        raise _strange(name, values, f"({run.size}, D), one row")
    values = values.detach().float().cpu()
    finite = values.sum(dim=1).isfinite()
    doubtful = (~finite).nonzero().flatten()  # finite numbers can overflow when summed up
    finite[doubtful] = values[doubtful].isfinite().all(dim=1)
    _refuse(name, ~finite, "not finite", run)
    return values


def numbers(name: str, values: Any, run: Run) -> Tensor:
    """(N,) float32 on the CPU, one number a sample, infinite ones allowed; ValueError for anything else.

    Of samples that the user's sampler cannot give, NaN is allowed too.
    """
    if not isinstance(values, Tensor) or values.shape != (run.size,):
        raise _strange(name, values, f"({run.size},), one number")
    values = values.detach().float().cpu()
    _refuse(name, values.isnan(), "NaN", run)
    return values


def _strange(name: str, values: Any, expected: str) -> ValueError:
    given = f"have shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"are {type(values).__name__}"
    return ValueError(
        f"{name} {given}; expected {expected} a sample. Did the data set change since they were made? Make them again."
    )


def _refuse(name: str, broken: Tensor, what: str, run: Run) -> None:
    samples = broken.nonzero().flatten()
    if len(samples) and run.pool is not None:
        samples = run.pool[broken[run.pool]]
    if len(samples):
        other = "" if run.pool is None else " Were they made with another sampler, which cannot give these?"
        raise ValueError(f"{name} of {len(samples)} samples are {what}, first {samples[:5].tolist()}.{other}")


def spread(values: Tensor, run: Run) -> Tensor:
    """(N,) from ``values`` (M,) of the samples ``run.where``; for others NaN, or -1 among integers."""
    if run.pool is None:
        return values
    unknown = torch.nan if values.is_floating_point() else -1
    return torch.full((run.size,), unknown, dtype=values.dtype).index_copy_(0, run.pool, values)


def _known(scores: Tensor) -> bool:
    """Whether none of ``scores`` is what ``spread`` fills in."""
    return not bool((scores.isnan() if scores.is_floating_point() else scores < 0).any())
