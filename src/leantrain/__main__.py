"""``python -m leantrain``."""

from leantrain.cli import main

main()
