"""The command line."""

from leantrain.cli.app import main

__all__ = ["main"]
