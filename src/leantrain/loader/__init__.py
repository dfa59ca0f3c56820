"""The user's DataLoader, its batches, fewer samples."""

from leantrain.loader.loader import Loader
from leantrain.loader.wrap import wrap

__all__ = ["Loader", "wrap"]
