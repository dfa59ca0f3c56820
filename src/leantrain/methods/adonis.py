"""ADONIS: adaptive online importance sampling. Trains on the samples whose loss is a frequent one.

B = samples of an original batch, n = losses of the history within the clipping range, k = bins. The steps run in NumPy,
whose operations on so few numbers take half as long as torch's.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from leantrain.core.plan import Batch
from leantrain.core.run import Run
from leantrain.methods._loss_recycling import Recycling
from leantrain.rng import chosen, generator
from leantrain.utils import validation
from leantrain.utils.validation import Count, Positive, Share, TwoOrMore

RULES = {  # number of equal-width bins for n values
    "sturges": lambda n: math.ceil(math.log2(n)) + 1,  # Eq. 4
    "sqrt": lambda n: math.ceil(math.sqrt(n)),
    "rice": lambda n: math.ceil(2 * n ** (1 / 3)),
}


@dataclass(kw_only=True, eq=False)
class Adonis(Recycling):
    """Keeps the samples of a batch whose losses fall into the fullest bins of a histogram of recent losses.

    Unlike Selective-Backprop it prefers frequent losses to large ones, which may be outliers or wrong labels, and
    tosses no coin in deciding which bins count.

    Args:
        history: number of most recent losses that the histogram is made of (gamma in Algorithm 1, l in Appendix B).
        rule: number of bins: ``"sturges"``, ``"sqrt"`` or ``"rice"``.
        sigma: the histogram covers the history's mean +- sigma standard deviations.
        stale_epochs: eta, for how many epochs a loss counts as current. 1 scores in every epoch, 3 in every third;
            the epochs between are decided from stored losses, before loading. None: 3, or 1 with ``score="recycle"``.
        theta: a bin counts when its share of the histogram is above theta; ``"auto"`` picks the threshold that leaves
            ``keep_ratio`` of the samples.
        alpha: share of a batch's candidates that is kept, drawn at random. None: with ``theta="auto"``
            ``keep_ratio`` + 0.1, at most 1, so that only the emptiest bins are left out; otherwise 0.3 (Appendix B).
        keep_ratio: with ``theta="auto"``, the wanted share of all samples, after alpha; without it, of no effect. Where
            sigma clips too many of the losses it is out of reach, and ``report()`` counts the batches.
        start_epoch: omega, the number of epochs at the start that train on everything (Algorithm 1 counts from 1).
        half_life: makes recent losses count more: one seen k judgements ago weighs 0.5 ** (k / half_life). The weights
            apply to the clipping range's mean and standard deviation, to the heights of the bins and to the shares
            that ``theta="auto"`` adds up; the number of bins still follows the plain count. None: all weigh the same.
        scoring_batches: how many original batches are joined into the one that is judged.
        score, max_age, refresh: ``score="recycle"`` judges by the losses of training steps; see ``Recycling``.

    Cost: a forward pass without gradient for every sample of every ``stale_epochs``-th epoch, then forward and
    backward for the kept ones: 1 / eta + 3 * kept units a sample.

    Source: the ADONIS and IDS paper, Algorithm 1, Eq. 3-6, Table A2, Appendix B.

    Rulings where the paper contradicts itself: line 18 of Algorithm 1 reads inverted, its text on eta decides; a batch
    is judged after all its losses are in the history (Fig. 2-5), not sample by sample; the open training batch carries
    over to the next epoch; losses that are not finite never enter the history. Where no bin passes theta the method
    would stall for ever: then the fullest bin counts, and the event is counted in ``report()``.

    From the paper's outlook come ``theta="auto"``, ``half_life``, ``scoring_batches`` and ``score="recycle"``.

    Differs from the paper: the defaults. Its settings (Table A2, with Appendix B's alpha), whose 23 bins hold 4 % of
    the losses each so that few pass a theta of 0.12, are ``Adonis.preset("paper")``; docs/methods/adonis.md tells how
    both trained.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"score"})
    presets: ClassVar[Mapping[str, dict[str, Any]]] = {
        "paper": {"history": 512, "rule": "sqrt", "sigma": 1.0, "stale_epochs": 1, "theta": 0.12, "alpha": 0.3}
    }

    history: TwoOrMore = 512
    rule: Literal["sturges", "sqrt", "rice"] = "sturges"
    sigma: Positive = 2.0
    stale_epochs: Count | None = None
    theta: float | Literal["auto"] = "auto"
    alpha: Share | None = None
    keep_ratio: Share = 0.6
    half_life: Positive | None = None
    scoring_batches: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stale_epochs is None:
            self.stale_epochs = 1 if self.score == "recycle" else 3
        if self.score == "recycle" and self.stale_epochs != 1:
            raise ValueError(
                f'stale_epochs={self.stale_epochs} is about scoring passes, and score="recycle" has none. Set max_age.'
            )
        auto = self.theta == "auto"
        if isinstance(self.theta, str):
            validation.one_of("theta", self.theta, ["auto"])
        else:
            validation.fraction("theta", self.theta, zero=True, one=False)
        if self.alpha is None:
            self.alpha = min(1.0, round(self.keep_ratio + 0.1, 6)) if auto else 0.3
        if auto and self.keep_ratio > self.alpha:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} cannot be reached: of the candidates only alpha={self.alpha} is kept. "
                "Raise alpha to keep_ratio or above, or name a theta."
            )

    def setup(self, run: Run) -> None:
        super().setup(run)
        self._recent = np.empty(0)  # H, the last `history` losses
        self._age = np.empty(0, dtype=np.int64)  # how many judgements ago each was seen; only with half_life
        self._stalls = self._short = 0

    def loss_age(self, epoch: int) -> int | None:
        return None if super().loss_age(epoch) is None else self.stale_epochs

    def select(self, batch: Batch) -> Tensor:
        seen = np.concatenate((self._recent, batch.losses.numpy()))  # float64
        if not len(seen):  # all scores so far were NaN
            return torch.empty(0, dtype=torch.int64)
        losses, self._recent = seen[len(self._recent) :], seen[-self.history :]  # step 3
        weights = None
        if self.half_life is not None:
            self._age = np.concatenate((self._age + 1, np.zeros(len(losses), dtype=np.int64)))[-self.history :]
            weights = decay(self._age, self.half_life)
        low, high, counts = histogram(self._recent, weights, self.sigma, self.rule)  # steps 4, 5
        counting, keep = self._choose_bins(counts, float(len(self._recent) if weights is None else weights.sum()))
        positions = ((losses >= low) & (losses <= high)).nonzero()[0]  # step 6: p = 0 outside the range
        positions = positions[counting[bin_of(losses[positions], low, high, len(counts))]]
        rng = generator(self.run.seed, batch.epoch, "adonis", batch.number)
        kept = chosen(len(positions), validation.portion(keep, len(positions)), rng)  # step 8
        return torch.from_numpy(positions[kept])

    def _choose_bins(self, counts: np.ndarray, total: float) -> tuple[np.ndarray, float]:
        """Which bins count, (k,) bool, and the share of their samples to keep. Steps 6 and 7."""
        assert self.alpha is not None
        if self.theta == "auto":
            fullest = (-counts).argsort(kind="stable")
            share = counts[fullest].cumsum() / total  # of all samples, clipped ones included
            wanted = int(share.searchsorted(self.keep_ratio / self.alpha - 1e-6)) + 1
            self._short += wanted > len(fullest)
            counting = np.zeros(len(counts), dtype=bool)
            counting[fullest[:wanted]] = True
            return counting, min(self.alpha, self.keep_ratio / float(share[min(wanted, len(fullest)) - 1]))
        assert isinstance(self.theta, float | int)
        counting, fullest = counts / counts.sum() > self.theta, counts.argmax()  # Eq. 6 and 3
        if not counting[fullest]:
            self._stalls += 1
            counting[fullest] = True
        return counting, self.alpha

    def report(self) -> dict[str, float]:
        return {
            "batches_without_a_bin_above_theta": self._stalls,
            "batches_short_of_keep_ratio": self._short,
        }

    def state_dict(self) -> dict[str, Any]:
        recent, age = torch.from_numpy(self._recent).float(), torch.from_numpy(self._age)
        return {"recent": recent, "age": age, "stalls": self._stalls, "short": self._short}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recent, self._age = state["recent"].double().numpy(), state["age"].numpy()
        self._stalls, self._short = state["stalls"], state["short"]


def decay(age: np.ndarray, half_life: float) -> np.ndarray:
    """(n,) float64 weights of losses seen ``age`` (n,) judgements ago; never 0, so that shares of them stay numbers."""
    return np.maximum(0.5 ** (age / half_life), 1e-30)


def histogram(
    values: np.ndarray, weights: np.ndarray | None, sigma: float, rule: str
) -> tuple[float, float, np.ndarray]:
    """Lowest and highest kept value and the (k,) weights of equal-width bins between them (Fig. 3 and 4).

    Without ``weights``, (n,) float64 like ``values``, they are the counts.
    """
    if weights is None:
        mean = values.sum() / len(values)
        away = np.abs(values - mean)
        std = math.sqrt(away @ away / len(values))
    else:
        total = weights.sum()
        mean = weights @ values / total
        away = np.abs(values - mean)
        std = math.sqrt(weights @ (away * away) / total)
    # The mean of equal values can be off by a rounding error, which must not clip all of them away.
    inside = away <= sigma * std + 1e-9 * abs(mean)
    kept = values[inside]
    if not len(kept):  # two far-apart clusters and a small sigma: keep what lies nearest the mean
        inside[away.argmin()] = True
        kept = values[inside]
    low, high = kept.item(kept.argmin()), kept.item(kept.argmax())  # min() and max() take four times as long
    bins = RULES[rule](len(kept))
    weights = weights if weights is None else weights[inside]
    return low, high, np.bincount(bin_of(kept, low, high, bins), weights, minlength=bins)


def bin_of(values: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """The bin of each of ``values``, all within ``low`` and ``high``; the last bin is closed on the right."""
    width = max(high - low, sys.float_info.min)
    return np.minimum(((values - low) / width * bins).astype(np.int64), bins - 1)
