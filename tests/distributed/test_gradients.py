"""The gradient that DDP averages is that of the whole batch on one process, however unequal the ranks' parts."""

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from distributed.processes import on_ranks
from leantrain import SB, Adonis, ClassFloor, Full, InfoBatch, Selector, scorer, wrap

SIZE = 45  # neither this nor what is kept of it leaves fewer than two samples a rank at an epoch's end


def task() -> tuple[TensorDataset, nn.Module]:
    random = torch.Generator().manual_seed(2)
    dataset = TensorDataset(torch.randn(SIZE, 5, generator=random), torch.arange(SIZE) % 3)
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        return dataset, nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def trained(selector: Selector, batch_size: int, *, parallel: bool, broken: int | None = None) -> dict[str, Any]:
    """Weights after three epochs; with ``broken``, the losses of that sample are NaN and their steps skipped."""
    dataset, bare = task()
    model = DistributedDataParallel(bare) if parallel else bare
    order = torch.Generator().manual_seed(1)
    loader = wrap(
        DataLoader(dataset, batch_size=batch_size, shuffle=True, generator=order),
        selector,
        score=scorer(bare, F.cross_entropy, forward=lambda model, batch: (model(batch[0].double()), batch[1])),
        epochs=3,
        targets=dataset.tensors[1],
        nonfinite="raise" if broken is None else "skip",
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(3):
        for x, y in loader:
            losses = F.cross_entropy(model(x.double()), y, reduction="none")
            if broken is not None:
                losses = losses.where(loader.indices != broken, torch.nan)
            optimizer.zero_grad()
            loader.reduce(losses).backward()
            optimizer.step()
    weights = torch.cat([value.flatten() for value in bare.state_dict().values()])
    return {"weights": weights.tolist(), "skipped": loader.stats.skipped_steps, "trained": loader.stats.trained}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("make", [Full, lambda: InfoBatch(prune_ratio=0.5), lambda: ClassFloor(InfoBatch(), 0.5)])
def test_weights_are_those_of_one_process(make: Any, count: int) -> None:
    ranks = on_ranks(count, lambda: trained(make(), 12 // count, parallel=True))
    one = trained(make(), 12, parallel=False)
    for found in ranks:
        torch.testing.assert_close(torch.tensor(found["weights"]), torch.tensor(one["weights"]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [lambda: SB(beta=1.0), lambda: Adonis(theta="auto")])
def test_online_methods_score_through_ddp_and_ranks_stay_together(make: Any) -> None:
    ranks = on_ranks(2, lambda: trained(make(), 6, parallel=True))
    assert ranks[0] == ranks[1]
    assert 0 < ranks[0]["trained"] < 3 * SIZE


@pytest.mark.filterwarnings("ignore:The training loss of sample")
def test_a_step_that_one_rank_skips_is_skipped_by_all() -> None:
    ranks = on_ranks(2, lambda: trained(Full(), 6, parallel=True, broken=7))
    one = trained(Full(), 12, parallel=False, broken=7)
    assert [found["skipped"] for found in ranks] == [3, 3] == [one["skipped"]] * 2
    torch.testing.assert_close(torch.tensor(ranks[0]["weights"]), torch.tensor(one["weights"]), rtol=1e-6, atol=1e-7)
    assert ranks[0]["weights"] == ranks[1]["weights"]


def test_the_scorer_leaves_ddp_out() -> None:
    """Its forward pass broadcasts buffers, which all ranks would have to do equally often."""

    def rank() -> list[float]:
        model = DistributedDataParallel(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)))
        score = scorer(model, F.cross_entropy)
        given: Tensor = torch.zeros(1)
        for _ in range(1 + 3 * dist.get_rank()):
            given = score((torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))).losses
        return given.tolist()

    assert all(len(found) == 4 for found in on_ranks(2, rank, seconds=30))


def test_copies_of_the_task_are_equal() -> None:
    (_, first), (_, second) = task(), task()
    assert str(copy.deepcopy(first.state_dict())) == str(second.state_dict())
