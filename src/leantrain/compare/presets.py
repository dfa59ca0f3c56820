"""Experiments of the sources by name: recordings to make, comparisons to run, and the figures that were printed."""

from dataclasses import dataclass, field
from typing import Any

Changes = dict[str, Any]  # settings of a comparison that differ from the preset's base


@dataclass(frozen=True)
class Table:
    """One table of a source.

    Args:
        title: what varies.
        columns: by heading, the comparison that gives the column.
        rows: by heading, the method of each column's comparison that gives the row.
        printed: the source's own figures, by row and column.
    """

    title: str
    columns: dict[str, str]
    rows: dict[str, str]
    printed: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """One experiment of a source.

    Args:
        source: what is repeated, and what the source leaves open.
        data: what it is made for, in words.
        base: settings of every comparison.
        recordings: by name, the method that is recorded and how its run differs from ``base``. Comparisons replay it
            as the method ``replay@NAME``.
        comparisons: by name, how each differs from ``base``.
        tables: of fixed-accuracy speed-ups.
        matrix: whether what matters is every method under every comparison.
    """

    source: str
    data: str
    base: Changes
    recordings: dict[str, tuple[str, Changes]]
    comparisons: dict[str, Changes]
    tables: tuple[Table, ...] = ()
    matrix: bool = False


_BASELINES = ("full", "random-pb", "grad-match")
_SINGLE = {"grad-match": "grad-match", "cached-grad-match": "replay@resnet", "random-pb": "random-pb"}

CACHED_GRAD_MATCH = Preset(
    source=(
        "Cai, Duan and Agarwal, Faster Training by Automatically Selecting the Best Training Data for Computer Vision "
        "Tasks, 2022, tables 1 to 3: fixed-accuracy speed-ups on CIFAR-10 of Grad-Match and of its subsets replayed. "
        "Not said there and chosen here: the share of the samples (0.3), the epochs, the accuracy at which speed-ups "
        "are read (the highest that every run of a column reaches), the learning rate of Adam and RMSProp (0.001)."
    ),
    data="CIFAR-10",
    base={
        "model": "resnet18-32",
        "epochs": 200,
        "lr": 0.03,
        "settings": {
            "grad-match": {"keep_ratio": 0.3, "select_every": 20},
            "grad-match@warm": {"warm": 0.5},
            "random-pb": {"keep_ratio": 0.3},
        },
    },
    recordings={
        "resnet": ("grad-match", {}),
        "mobilenet": ("grad-match", {"model": "mobilenetv2-32"}),
        "mobilenet-warm": ("grad-match@warm", {"model": "mobilenetv2-32"}),
    },
    comparisons={
        "base": {
            "methods": (
                *_BASELINES,
                "grad-match@warm",
                "replay@resnet",
                "replay@mobilenet",
                "replay@mobilenet-warm",
            )
        },
        "lr-0.001": {"lr": 0.001, "methods": (*_BASELINES, "replay@resnet")},
        "lr-0.003": {"lr": 0.003, "methods": (*_BASELINES, "replay@resnet")},
        "adam": {"optimizer": "adam", "lr": 0.001, "methods": (*_BASELINES, "replay@resnet")},
        "rmsprop": {"optimizer": "rmsprop", "lr": 0.001, "methods": (*_BASELINES, "replay@resnet")},
    },
    tables=(
        Table(
            "learning rate",
            {"0.001": "lr-0.001", "0.003": "lr-0.003", "0.03": "base"},
            _SINGLE,
            {
                "grad-match": {"0.001": 0.81, "0.003": 0.82, "0.03": 2.72},
                "cached-grad-match": {"0.001": 1.00, "0.003": 0.99, "0.03": 7.92},
            },
        ),
        Table(
            "optimizer",
            {"Adam": "adam", "RMSProp": "rmsprop", "SGD": "base"},
            _SINGLE,
            {
                "grad-match": {"Adam": 0.83, "RMSProp": 0.81, "SGD": 3.07},
                "cached-grad-match": {"Adam": 0.67, "RMSProp": 0.97, "SGD": 4.68},
            },
        ),
        Table(
            "architecture: subsets recorded with MobileNetV2",
            {"ResNet": "base"},
            {
                "grad-match": "grad-match",
                "grad-match-warm": "grad-match@warm",
                "cached-grad-match": "replay@mobilenet",
                "cached-grad-match-warm": "replay@mobilenet-warm",
                "random-pb": "random-pb",
            },
            {
                "grad-match": {"ResNet": 3.86},
                "grad-match-warm": {"ResNet": 4.69},
                "cached-grad-match": {"ResNet": 2.24},
                "cached-grad-match-warm": {"ResNet": 4.51},
            },
        ),
    ),
)

CONDITIONS = Preset(
    source=(
        "Eight methods under what real data look like, beside full training of the same time and of the same work: "
        "ours, of no source. Controls are read off a line of full trainings."
    ),
    data="any images; made for CIFAR-10",
    base={
        "model": "tiny-resnet",
        "limit": 3000,
        "epochs": 15,
        "batch_size": 64,
        "lr": 0.1,
        "precision": "bf16",
        "channels_last": True,
        "seeds": (0, 1, 2, 3, 4),
        "evaluate": "end",
        "control": "line",
        "line": (0.45, 0.65, 0.85),
        "controls": ("time", "work"),
        "methods": ("full", "infobatch", "kakurenbo", "orderdp", "seta", "rs2", "forget", "ids", "sb"),
        "settings": {"forget": {"probe_epochs": 0.2}},
    },
    recordings={},
    # A long tail leaves 41 % of ten equal classes at ratio 10 and 25 % at 100: as many images are left as elsewhere.
    comparisons={
        "clean": {"condition": "clean"},
        "noise-0.4": {"condition": "noise=0.4"},
        "redundant-4": {"condition": "redundant=4"},
        "long-tail-100": {"condition": "long-tail=100", "limit": 12100},
        "long-tail-10+noise-0.2": {"condition": "long-tail=10+noise=0.2", "limit": 7340},
        "noise-0.2": {"condition": "noise=0.2"},
        "repeated-0.1": {"condition": "repeated=0.1"},
        "long-tail-10": {"condition": "long-tail=10", "limit": 7340},
    },
    matrix=True,
)

PRESETS = {"cached-grad-match": CACHED_GRAD_MATCH, "conditions": CONDITIONS}
