"""Selection and scoring move no global random stream beyond what the plain loader moves."""

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leantrain import scorer
from toys import METHODS, Numbers, run_epoch, wrapped


def states() -> tuple[bytes, Any, str]:
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("method", METHODS)
def test_streams_move_as_with_the_plain_loader(method: str) -> None:
    """A model with dropout does the scoring; the training step itself draws nothing."""
    plain, expected = DataLoader(Numbers(), batch_size=4, shuffle=True), []
    torch.manual_seed(3)
    for _ in range(4):
        for _ in plain:
            pass
        expected.append(states())

    model = nn.Sequential(nn.Embedding(40, 8), nn.Dropout(0.5), nn.Linear(8, 4))
    score = scorer(model, F.cross_entropy)
    torch.manual_seed(3)
    loader = wrapped(METHODS[method](), shuffle=True, epochs=4, score=score)
    for epoch in range(4):
        run_epoch(loader)
        assert states() == expected[epoch]
    assert loader.stats.trained > 0


def test_augmentation_streams_of_the_workers_are_the_users() -> None:
    """Each worker's seed comes from the base seed: the same draws in the workers, wrapped or plain."""

    class Noisy(Numbers):
        def __getitem__(self, index: int) -> tuple[int, float]:  # type: ignore[override]
            return index, float(torch.rand(()))

    def noise(loader: Any) -> list[Tensor]:
        torch.manual_seed(5)
        return [batch[1] for _ in range(2) for batch in loader]

    options = {"num_workers": 2, "shuffle": True}
    plain = noise(DataLoader(Noisy(), batch_size=4, **options))
    ours = noise(wrapped(METHODS["full"](), Noisy(), **options))
    assert len(plain) == len(ours) == 20
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))
