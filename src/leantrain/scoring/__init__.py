"""The loss of each sample: scoring passes, and losses of training steps."""

from leantrain.scoring.loss_shapes import one_by_one, per_sample
from leantrain.scoring.scorer import Scores, scorer

__all__ = ["Scores", "one_by_one", "per_sample", "scorer"]
