"""Several ranks train on what one process would: one with batches as large as all of theirs together."""

from functools import cache
from typing import Any

import pytest
import torch

from distributed.processes import LONG, on_ranks
from leantrain import Loader
from toys import METHODS, Numbers, losses_at, wrapped

COUNTS = [3, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
EPOCHS, BATCH = 5, 12  # of all ranks; 40 samples are no multiple, and neither is what the methods keep


def judged(loader: Loader) -> list[tuple[int, list[int]]]:
    """Epoch and this rank's indices of each training step of a whole run."""
    given = []
    for epoch in range(EPOCHS):
        for _ in loader:
            indices = loader.indices
            given.append((epoch, indices.tolist()))
            losses = losses_at(epoch, indices)
            logits = torch.nn.functional.one_hot((indices + epoch) % 4, 4) * losses.unsqueeze(1)
            loader.reduce(losses, logits, torch.tensor(Numbers().targets)[indices])
    return given


def facts(method: str, batch: int, **options: Any) -> dict[str, Any]:
    loader = wrapped(METHODS[method](), batch_size=batch, epochs=EPOCHS, shuffle=True, seed=1, **options)
    steps = judged(loader)
    stats = loader.stats
    return {
        "steps": steps,
        "judged": [epoch for epoch in range(EPOCHS) if loader.selector.loss_age(epoch) is not None],
        "ledger": {name: value.nan_to_num(-7).tolist() for name, value in loader.ledger.state_dict().items()},
        "counts": (stats.trained, stats.steps, stats.loaded, stats.scored),
        "last": loader.selector.report(),
    }


@cache
def alone(method: str) -> dict[str, Any]:
    return facts(method, BATCH, generator=torch.Generator().manual_seed(3))


@cache
def shared(methods: tuple[str, ...], count: int, workers: int = 0) -> list[dict[str, dict[str, Any]]]:
    """What each rank found, by method; one group runs them all, as each fork of this process is dear."""

    if "ssp" in methods:
        import sklearn.cluster  # noqa: F401 - once, not on each rank

    def rank() -> dict[str, dict[str, Any]]:
        made = {"num_workers": workers, "batch": BATCH // count}
        return {name: facts(name, generator=torch.Generator().manual_seed(3), **made) for name in methods}

    return on_ranks(count, rank, seconds=LONG)


def joined(ranks: list[dict[str, Any]]) -> list[tuple[int, list[int]]]:
    """The steps of all ranks together."""
    return [
        (parts[0][0], [index for _, indices in parts for index in indices])
        for parts in zip(*(rank["steps"] for rank in ranks), strict=True)
    ]


BY_EPOCH = tuple(name for name in METHODS if "score" not in METHODS[name]().needs)
ONLINE = tuple(name for name in METHODS if name not in BY_EPOCH)
WITH_WORKERS = ("adonis",)  # the rest in the slow tests
REST = tuple(name for name in ONLINE if name not in WITH_WORKERS)


def without_tails(steps: list[tuple[int, list[int]]], least: int) -> list[tuple[int, list[int]]]:
    """``steps`` with the batches of fewer than ``least`` samples joined to those before them in their epoch."""
    made: list[tuple[int, list[int]]] = []
    for epoch, indices in steps:
        if len(indices) < least and made and made[-1][0] == epoch:
            made[-1] = epoch, made[-1][1] + indices
        else:
            made.append((epoch, indices))
    return made


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("method", BY_EPOCH)
def test_methods_by_epoch_train_on_the_same_samples_in_the_same_steps(method: str, count: int) -> None:
    ranks, one = [found[method] for found in shared(BY_EPOCH, count)], alone(method)
    per_epoch = [sorted(i for e, part in joined(ranks) if e == epoch for i in part) for epoch in range(EPOCHS)]
    assert per_epoch == [sorted(i for e, part in one["steps"] if e == epoch for i in part) for epoch in range(EPOCHS)]
    assert all(indices for rank in ranks for _, indices in rank["steps"])
    sizes = [[len(indices) for _, indices in rank["steps"]] for rank in ranks]
    assert all(max(step) - min(step) <= 1 for step in zip(*sizes, strict=True))
    assert all(rank["ledger"] == one["ledger"] for rank in ranks)
    assert [rank["counts"] for rank in ranks] == [ranks[0]["counts"]] * count
    assert ranks[0]["counts"][0] == one["counts"][0]
    assert without_tails(joined(ranks), 2 * count) == without_tails(one["steps"], 2 * count)


@pytest.mark.filterwarnings("ignore:Epoch .* kept too few samples")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("method", ONLINE)
def test_online_methods_judge_as_one_process_and_step_together(method: str, count: int) -> None:
    judge_together(method, [found[method] for found in shared(ONLINE, count)])


@pytest.mark.filterwarnings("ignore:Epoch .* kept too few samples")
@pytest.mark.parametrize("method", [*WITH_WORKERS, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_also_with_workers(method: str) -> None:
    judge_together(method, [found[method] for found in shared(WITH_WORKERS if method in WITH_WORKERS else REST, 2, 2)])


def judge_together(method: str, ranks: list[dict[str, Any]]) -> None:
    one, count = alone(method), len(ranks)
    trained = [sum(len(part) for _, part in found) for found in (joined(ranks), one["steps"])]
    assert abs(trained[1] - trained[0]) < BATCH
    assert all(indices for rank in ranks for _, indices in rank["steps"])
    for rank in ranks:
        assert rank["ledger"] == ranks[0]["ledger"]
        sizes = {len(indices) for epoch, indices in rank["steps"][:-1] if epoch in one["judged"]}
        assert sizes <= {BATCH // count} or method == "composer-sb"
    counts = torch.zeros(40, dtype=torch.int64)
    for _, indices in joined(ranks):
        counts.index_add_(0, torch.tensor(indices), torch.ones(len(indices), dtype=torch.int64))
    assert counts.tolist() == ranks[0]["ledger"]["trained"]
    if method == "ids|adonis" and count > 2:
        return  # its pools end in fewer samples than ranks, which are judged with the batch before them
    assert ranks[0]["ledger"]["score"] == one["ledger"]["score"]
    assert ranks[0]["ledger"]["score_epoch"] == one["ledger"]["score_epoch"]
    assert ranks[0]["last"] == one["last"]
    missing = torch.tensor(one["ledger"]["trained"]) - counts
    assert 0 <= int(missing.sum()) == int(missing.abs().sum()) < count  # fewer than one a rank go unused at the end
