"""The loss of each sample: scoring passes, and losses of training steps."""

from leantrain.scoring.scorer import Scores, scorer

__all__ = ["Scores", "scorer"]
