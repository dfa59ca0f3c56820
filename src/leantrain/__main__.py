"""``python -m leantrain``."""

from leantrain.cli.app import main

main()
