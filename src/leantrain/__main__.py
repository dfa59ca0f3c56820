"""``python -m leantrain``: the command line, as ``leantrain`` runs it."""

from leantrain.cli.app import main

main()
