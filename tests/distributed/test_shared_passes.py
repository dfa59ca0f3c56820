"""Passes over the data set that ranks share: each makes its part of the rows, and all hold what one process would."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from distributed.processes import on_ranks
from leantrain import IDS, GradMatch, wrap
from leantrain.embed import embed, gradients, snapshot


class Numbered(Dataset):
    """Sample i is i; those of ``lost`` cannot be read."""

    def __init__(self, size, lost=()):
        self.size, self.lost = size, lost

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.lost:
            raise OSError("torn")
        return float(index)


def squares(batch):
    return torch.stack([batch, batch.square()], dim=1)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (37, {}),  # three ranks' last batches hold 2, 2 and 2... of 7; two ranks' 4 and 3
        (31, {}),  # one sample is left over: the other ranks make it too
        (37, {"sampler": SubsetRandomSampler(range(3, 30, 2))}),
    ],
)
def test_each_makes_its_part_and_all_hold_the_whole(count, size, options):
    def rank(**shared):
        batches = []
        loader = DataLoader(Numbered(size), 5, **options)
        made = embed(loader, lambda batch: batches.append(len(batch)) or squares(batch), **shared)
        return made.values.nan_to_num(-1).tolist(), batches

    whole, alone = rank()
    found = on_ranks(count, lambda: rank(shared=True))
    assert [values for values, _ in found] == [whole] * count
    parts = [batches for _, batches in found]
    assert len({len(batches) for batches in parts}) == 1
    assert sum(alone) <= sum(map(sum, parts)) < sum(alone) + count
    assert max(map(max, parts)) <= 5


def test_what_cannot_be_read_is_told_and_filled_on_all():
    def rank(**shared):
        loader = DataLoader(Numbered(37, lost=(4, 30)), 5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = embed(loader, squares, unreadable="skip", **shared)
        return made.values.tolist(), made.lost

    assert on_ranks(2, lambda: rank(shared=True)) == [rank()] * 2
    assert rank()[1] == 2


def test_an_error_of_one_ends_all():
    def rank():
        return embed(DataLoader(Numbered(37, lost=(2,)), 5), squares, shared=True)

    first, second = on_ranks(2, rank, seconds=30)
    assert first.startswith("OSError: torn")
    assert second.startswith("RuntimeError: Another rank failed in its part of a pass")


def test_a_cache_is_not_shared(tmp_path):
    with pytest.raises(ValueError, match="shared=True goes without cache="):
        embed(DataLoader(Numbered(9)), squares, cache=tmp_path, shared=True)


@pytest.mark.parametrize("parallel", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_methods_plan_as_with_whole_passes(parallel):
    """45 samples in batches of 4; under DDP, BatchNorm's buffers are exchanged in each pass: all ranks need as many."""
    random = torch.Generator().manual_seed(2)
    data = TensorDataset(torch.randn(45, 5, generator=random), torch.arange(45) % 3)

    def trained(kind, shared):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
        model = DistributedDataParallel(model) if parallel else model.eval()
        loader = DataLoader(data, 4, shuffle=True, generator=torch.Generator().manual_seed(1))
        if kind == "ids":
            make = snapshot(model, loader, forward=lambda m, b: m(b[0].double()), shared=shared)
            selector = IDS(features=make, keep_ratio=0.6)
        else:
            make = gradients(model, loader, forward=lambda m, b: (m(b[0].double()), b[1]), shared=shared)
            selector = GradMatch(gradients=make, keep_ratio=0.4, select_every=1)
        loader = wrap(loader, selector, epochs=2, targets=data.tensors[1])
        for x, y in loader:
            loader.reduce(F.cross_entropy(model(x.double()), y, reduction="none")).backward()
        return sorted(loader.plan.indices.tolist()), loader.ledger.loss.nan_to_num(-1).tolist()

    def rank():
        return [[trained(kind, shared) for shared in (True, False)] for kind in ("ids", "grad-match")]

    first, second = on_ranks(2, rank)
    assert first == second
    for shared, whole in first:
        assert shared == whole
