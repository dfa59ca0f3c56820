"""leantrain: train on the samples that matter, and know whether it paid."""

from leantrain.estimating import estimate
from leantrain.forecast import Estimate
from leantrain.guard import ClassFloor
from leantrain.ledger import Ledger
from leantrain.loader import Loader
from leantrain.methods import (
    EL2N,
    IDS,
    IES,
    ISWR,
    RPC,
    RPD,
    RS2,
    SB,
    SSP,
    Adonis,
    ComposerSB,
    Forget,
    Full,
    GradMatch,
    GradMatchPB,
    GraNd,
    InfoBatch,
    Kakurenbo,
    OrderDP,
    RandomPB,
    RHOLoss,
    SeTa,
    StaleSB,
)
from leantrain.partial_forward import PartialForward
from leantrain.replay import Record, Replay
from leantrain.schedule import ProgressLR
from leantrain.scoring import Scores, scorer
from leantrain.selector import Batch, Plan, Run, Selector
from leantrain.wrapping import wrap

__version__ = "0.1.0"

__all__ = [
    "EL2N",
    "IDS",
    "IES",
    "ISWR",
    "RPC",
    "RPD",
    "RS2",
    "SB",
    "SSP",
    "Adonis",
    "Batch",
    "ClassFloor",
    "ComposerSB",
    "Estimate",
    "Forget",
    "Full",
    "GraNd",
    "GradMatch",
    "GradMatchPB",
    "InfoBatch",
    "Kakurenbo",
    "Ledger",
    "Loader",
    "OrderDP",
    "PartialForward",
    "Plan",
    "ProgressLR",
    "RHOLoss",
    "RandomPB",
    "Record",
    "Replay",
    "Run",
    "Scores",
    "SeTa",
    "Selector",
    "StaleSB",
    "estimate",
    "scorer",
    "wrap",
]
