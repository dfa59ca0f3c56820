"""Data sets to train on: readers, checks, conditions."""

from leantrain.data.datasets import ImageData
from leantrain.data.images import ArrayDataset, LazyDataset
from leantrain.data.load import load
from leantrain.utils.optional_import import require_extra

__all__ = ["ArrayDataset", "ImageData", "LazyDataset", "load", "require_extra"]
