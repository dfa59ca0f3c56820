"""Checkpoints on disk: the format, and when one is written."""

from leantrain.checkpoint.format import load_latest, save

__all__ = ["load_latest", "save"]
