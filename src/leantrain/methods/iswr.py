"""ISWR: importance sampling with replacement, large losses oftener. N = samples of the pool."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import Selector
from leantrain.rng import generator


@dataclass(kw_only=True, eq=False)
class ISWR(Selector):
    """Draws as many samples as there are, with replacement, each with a probability proportional to its last loss.

    The first epoch draws uniformly. Later, a sample never seen counts as one of average loss; where all losses are
    zero, the draws are uniform. They come in random order, whatever the DataLoader's.

    Args:
        unbiased: weigh a sample by 1 / (N p), so that the expected loss and gradient are those of the whole data set.
            A sample whose last loss is 0 has p = 0 and stays out.

    Cost: 3 units a draw, N draws an epoch: as much as full training. It saves time only by needing fewer epochs.

    Source: the baseline of Nguyen et al., "KAKURENBO", NeurIPS 2023, arXiv 2310.10102; the scheme is that of
    Katharopoulos and Fleuret, "Not All Samples Are Created Equal: Deep Learning with Importance Sampling", ICML 2018,
    arXiv 1803.00942, which draws within large batches, by a bound of the gradient's norm.

    Differs from the paper: nothing in what is told of this baseline; the full text was not compared. Differs from the
    authors' code: losses are those of the last training step, theirs of an extra forward pass over the whole data set
    before each epoch, in training mode. So here a sample that is not drawn keeps its old loss, and one whose loss was
    exactly 0 is not drawn again.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss"})

    unbiased: bool = False

    def plan(self, epoch: int, pool: Tensor) -> Plan:
        p = probabilities(self.run.ledger.loss[pool])
        drawn = draw(p, len(pool), generator(self.run.seed, epoch, "iswr"))
        # The plan's order holds, so it must not be that of the data set, which may be sorted by class.
        drawn = drawn[torch.randperm(len(drawn), generator=generator(self.run.seed, epoch, "iswr order"))]
        weights = (1 / (len(pool) * p[drawn])).float() if self.unbiased else None
        return Plan(pool[drawn], weights)


def probabilities(losses: Tensor) -> Tensor:
    """(N,) float64, proportional to ``losses`` (N,); NaN marks a sample never seen. Negative losses count as 0."""
    losses = losses.double().clamp_min(0)
    losses = losses.where(~losses.isnan(), losses.nanmean())
    total = losses.sum()
    if not total > 0:  # all zero, or NaN because nothing is known yet
        return torch.full((len(losses),), 1 / len(losses), dtype=torch.float64)
    return losses / total


def draw(p: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """``count`` positions drawn with replacement with probabilities ``p`` (N,), ascending.

    Any N: multinomial stops at 2^24.
    """
    cumulative = p.cumsum(0)
    points = torch.rand(count, generator=rng, dtype=torch.float64) * cumulative[-1]  # below the last one
    points.numpy().sort()  # ascending points are found far faster: neighbours lie in the same cache lines
    return torch.searchsorted(cumulative, points, right=True)  # right: where p = 0 no point can fall
