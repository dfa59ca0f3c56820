"""What Grad-Match and Grad-Match-PB share: when to select, from what, and what is told of it."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from leantrain.core.inputs import Input
from leantrain.core.plan import Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.embed.gradients import Gradients
from leantrain.rng import generator
from leantrain.solvers.gradient_factors import Dictionary
from leantrain.solvers.omp import Solution, omp
from leantrain.utils import validation
from leantrain.utils.memory import Part
from leantrain.utils.validation import Count, NotNegative, Share, ShareBelowOne, ShareOrZero

Source = Gradients | Callable[[], Gradients]


@dataclass(kw_only=True, eq=False)
class Matching(Selector):
    """Base of methods that select, every so often, a weighted subset whose gradient is near that of everything."""

    inputs: ClassVar = {"gradients": Input("gradients"), "validation": Input("gradients", other=True)}

    gradients: Source
    keep_ratio: Share = 0.3
    select_every: Count = 20
    regularisation: NotNegative = 0.5
    tolerance: ShareBelowOne = 1e-4
    warm: ShareOrZero = 0.0
    validation: Source | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gradients", "validation"):
            source = getattr(self, name)
            absent = name == "validation" and source is None
            if not (absent or isinstance(source, Gradients) or callable(source)):
                raise TypeError(
                    f"{name} must be Gradients or a callable that makes them, such as leantrain.embed.gradients(model, "
                    f"loader), not {type(source).__name__}."
                )

    def setup(self, run: Run) -> None:
        super().setup(run)
        who = type(self).__name__
        self._full = round(self.warm * run.need_epochs(f"{who} with warm") * self.keep_ratio) if self.warm else 0
        self._round = -1  # which selection the subset comes from
        self._indices = torch.empty(0, dtype=torch.int64)
        self._weights = torch.empty(0, dtype=torch.float32)
        self._sizes: tuple[int, ...] = ()  # of the batches that the subset consists of, if it does
        self._residuals = self._solved = self._filled = 0.0  # sum of relative residuals, how many, random fills
        if isinstance(self.gradients, Gradients):
            self._checked(self.gradients)

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        if epoch < self._full:
            return Plan(pool)
        due = (epoch - self._full) // self.select_every
        # A composed selector's pool may have lost some of the subset.
        if self._round != due or not torch.isin(self._indices, pool).all():
            gradients = self._checked(self.gradients() if callable(self.gradients) else self.gradients)
            self._select(pool, gradients, generator(self.run.seed, epoch, "grad-match"))
            self._weights = (self._weights / self._weights.mean()).float()  # the epoch's losses keep their scale
            self._round = due
        return Plan(self._indices, self._weights)

    def memory(self, run: Run) -> list[Part]:
        most = validation.portion(self.keep_ratio, self._largest(run))
        search = Part(f"Grad-Match's search, up to {most:,} chosen", 8 * most**2, "a smaller keep_ratio")
        return [*super().memory(run), search]

    @abstractmethod
    def _largest(self, run: Run) -> int:
        """Of how many samples or batches, at most, a search chooses its share."""

    @abstractmethod
    def _select(self, pool: Tensor, gradients: Gradients, rng: torch.Generator) -> None:
        """Set the subset of ``pool``, its weights and its batches."""

    def _checked(self, gradients: Gradients) -> Gradients:
        """``gradients``, if they are of this data set."""
        who, run = type(self).__name__, self.run
        if not isinstance(gradients, Gradients):
            raise TypeError(f"The callable given as gradients made {type(gradients).__name__}; expected Gradients.")
        if not len(gradients.delta) == len(gradients.features) == run.size:
            raise ValueError(
                f"gradients have {len(gradients.delta)} and {len(gradients.features)} rows; {who} expected {run.size}, "
                "one a sample of the data set that is trained on."
            )
        if gradients.fingerprint and run.fingerprint and gradients.fingerprint != run.fingerprint:
            raise ValueError(
                f"These gradients belong to another data set (fingerprint {gradients.fingerprint[:12]}, this one has "
                f"{run.fingerprint[:12]}). Make them with the DataLoader that is trained on."
            )
        return gradients

    def _validated(self, gradients: Gradients) -> Gradients | None:
        """The validation set's gradients, of the same layer as ``gradients``; None without."""
        other = self.validation() if callable(self.validation) else self.validation
        if other is not None:
            if other.read is not None:
                other = replace(other, delta=other.delta[other.read], features=other.features[other.read], read=None)
            ours, theirs = ([g.delta.shape[1], g.features.shape[1]] for g in (gradients, other))
            if ours != theirs:
                raise ValueError(
                    f"The validation gradients are of {theirs[0]} classes and {theirs[1]} features, those of the "
                    f"training set of {ours[0]} and {ours[1]}. Make both from the same layer of the same model."
                )
        return other

    def _match(self, atoms: Dictionary, count: int, target: Tensor | None) -> Solution:
        solution = omp(atoms, count, target=target, regularisation=self.regularisation, tolerance=self.tolerance)
        self._residuals, self._solved = self._residuals + solution.residual, self._solved + 1
        return solution

    def report(self) -> dict[str, float]:
        return {
            "mean_relative_residual": self._residuals / max(self._solved, 1),
            "random_fills": self._filled,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self._round,
            "indices": self._indices,
            "weights": self._weights,
            "sizes": list(self._sizes),
            "counts": [self._residuals, self._solved, self._filled],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._round, self._indices, self._weights = state["round"], state["indices"], state["weights"]
        self._sizes = tuple(state["sizes"])
        self._residuals, self._solved, self._filled = state["counts"]
