"""The command line: commands, their flags, what they print, how an error ends."""

from leantrain.cli.app import main

__all__ = ["main"]
