"""leantrain: train on the samples that matter, and know whether it paid."""

from leantrain.core.ledger import Ledger
from leantrain.core.plan import Batch, Plan
from leantrain.core.run import Run
from leantrain.core.selector import Selector
from leantrain.estimation.forecast import Estimate
from leantrain.estimation.inspection import Inspection, inspect
from leantrain.estimation.measure import estimate
from leantrain.loader.loader import Loader
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
    Auto,
    ClassCap,
    ComposerSB,
    Distinct,
    Forget,
    Full,
    GradMatch,
    GradMatchPB,
    GraNd,
    InfoBatch,
    InputSize,
    Kakurenbo,
    LabelGuard,
    OrderDP,
    RandomPB,
    RHOLoss,
    SeTa,
    StaleSB,
)
from leantrain.methods.by_name import wrap
from leantrain.methods.class_floor import ClassFloor
from leantrain.replay.record_replay import Record, Replay
from leantrain.schedule import ProgressLR
from leantrain.scoring.loss_shapes import one_by_one, per_sample
from leantrain.scoring.partial_forward import PartialForward
from leantrain.scoring.scorer import Scores, scorer

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
    "Auto",
    "Batch",
    "ClassCap",
    "ClassFloor",
    "ComposerSB",
    "Distinct",
    "Estimate",
    "Forget",
    "Full",
    "GraNd",
    "GradMatch",
    "GradMatchPB",
    "InfoBatch",
    "InputSize",
    "Inspection",
    "Kakurenbo",
    "LabelGuard",
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
    "inspect",
    "one_by_one",
    "per_sample",
    "scorer",
    "wrap",
]
