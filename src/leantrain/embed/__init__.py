"""Embeddings of a data set: the features that offline methods rank by."""

from leantrain.embed.difficulty import el2n, el2n_scores, grand_scores
from leantrain.embed.extractors import penultimate
from leantrain.embed.features import Features
from leantrain.embed.gradients import Gradients, gradients
from leantrain.embed.holdout import holdout_losses
from leantrain.embed.passes import embed, snapshot
from leantrain.embed.published import pretrained

__all__ = [
    "Features",
    "Gradients",
    "el2n",
    "el2n_scores",
    "embed",
    "gradients",
    "grand_scores",
    "holdout_losses",
    "penultimate",
    "pretrained",
    "snapshot",
]
