"""Images that stay where the model is: a batch is one indexing of a tensor, not a read, a copy and a join per sample.

N = samples of the data set, M = those in use, B = of a batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from leantrain.data import ArrayDataset
from leantrain.train.config import TrainConfig
from leantrain.utils.memory import Part, available, check_fits

SHARE = 2  # of the free memory, one part may be taken unasked: model, activations and probes want some, too


class Resident(Dataset[Any]):
    """The samples ``part`` (M,) of ``data``, all by default, with the images on ``device``; labels stay on the CPU.

    A batch is ``((B, C, H, W) uint8, (B,) int64)`` at once: for ``DataLoader(collate_fn=whole)`` without workers.
    """

    def __init__(self, data: ArrayDataset, device: torch.device, part: Tensor | None = None) -> None:
        self.images = (data.images if part is None else data.images[part]).to(device)
        self.targets = data.targets if part is None else data.targets[part]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.targets[index])

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor(indices)
        return self.images[rows.to(self.images.device)], self.targets[rows]


def whole(batch: Any) -> Any:
    """The ``collate_fn`` of a data set that gives batches."""
    return batch


# Batches of tensors, which the Loader can take apart and join.
whole.joinable = True  # pyright: ignore[reportFunctionMemberAccess]


def place(config: TrainConfig, data: Any, device: torch.device) -> torch.device | None:
    """Where the training images ``data`` are to stay: ``device``, the CPU, or None to read them one by one.

    Raises:
        ValueError: ``resident`` is asked for, and the images are not held in memory or do not fit on ``device``.
    """
    held = isinstance(data, ArrayDataset)
    if config.resident is True and not held:
        raise ValueError("resident=on needs images that are held in memory; these are read from files. Use auto.")
    if config.resident is False or not held:
        return None
    if device.type == "cuda":
        size, left = data.images.numel(), available(device)
        if config.resident is True:
            check_fits([Part("training images", size, "resident=off")], device)
            return device
        if left is not None and SHARE * size <= left:
            return device
    return torch.device("cpu") if config.resident is True or not config.workers else None


def foreseen(config: TrainConfig, data: Any) -> str:
    """``in_words`` of the place that a training will choose, before there is one."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    return in_words(place(config, data, torch.device("cuda" if cuda else "cpu")))


def in_words(where: torch.device | str | None) -> str:
    """What ``place`` said, for people."""
    return "read one by one" if where is None else f"resident on {where}"
