"""leantrain: train on the samples that matter, and know whether it paid."""

from leantrain.ledger import Ledger
from leantrain.loader import Loader, wrap
from leantrain.methods import IDS, RPC, RPD, RS2, SB, Adonis, Full, InfoBatch, StaleSB
from leantrain.schedule import ProgressLR
from leantrain.scoring import Scores, scorer
from leantrain.selector import Batch, Plan, Run, Selector

__version__ = "0.1.0"

__all__ = [
    "IDS",
    "RPC",
    "RPD",
    "RS2",
    "SB",
    "Adonis",
    "Batch",
    "Full",
    "InfoBatch",
    "Ledger",
    "Loader",
    "Plan",
    "ProgressLR",
    "Run",
    "Scores",
    "Selector",
    "StaleSB",
    "scorer",
    "wrap",
]
