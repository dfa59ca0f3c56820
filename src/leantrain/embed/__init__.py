"""Embeddings of a data set: the features that offline methods rank by."""

from leantrain.embed.extractors import penultimate, pretrained
from leantrain.embed.features import Features
from leantrain.embed.passes import embed, snapshot

__all__ = ["Features", "embed", "penultimate", "pretrained", "snapshot"]
