"""Choice before loading: in epochs decided beforehand, what is read is what is trained on, and nothing else."""

from collections import Counter
from typing import Any

import pytest
import torch

from leantrain import IDS, RS2, Adonis, InfoBatch, StaleSB
from toys import METHODS, SIZE, Numbers, embedding, flat, losses_at, run_epoch, wrapped


def objects(samples: list[Any]) -> Any:
    return torch.tensor([number for number, _ in samples]), [label for _, label in samples]


@pytest.mark.parametrize("collate", [None, objects], ids=["", "custom collate"])
@pytest.mark.parametrize("method", ["full", "rpc", "rpd", "rs2", "infobatch", "ids", "infobatch|rs2"])
def test_epoch_methods_read_what_they_train_on(method: str, collate: Any) -> None:
    data = Numbers()
    loader = wrapped(METHODS[method](), data, shuffle=True, collate_fn=collate)
    for _ in range(6):
        data.reads.clear()
        assert flat(run_epoch(loader)) == data.reads


@pytest.mark.parametrize("collate", [None, objects], ids=["", "custom collate"])
@pytest.mark.parametrize(
    ("selector", "fresh", "stored"),
    [
        (lambda: Adonis(theta="auto", stale_epochs=3), {0, 3}, {1, 2, 4, 5}),
        (lambda: StaleSB(beta=1.0), {1, 3, 5}, {2, 4}),
        (
            lambda: IDS(features=embedding(), switch_epoch=9) | Adonis(theta="auto", stale_epochs=2),
            {0, 2},
            {1, 3},
        ),
    ],
    ids=["adonis", "stale-sb", "ids|adonis"],
)
def test_stored_losses_decide_before_loading(selector: Any, fresh: set[int], stored: set[int], collate: Any) -> None:
    data = Numbers()
    loader = wrapped(selector(), data, shuffle=True, collate_fn=collate, epochs=6)
    for epoch in range(6):
        opened = loader.state_dict()["open"].tolist()
        planned = loader.plan.indices.tolist()
        data.reads.clear()
        scored, loaded = loader.stats.scored, loader.stats.loaded
        given = flat(run_epoch(loader))
        if epoch in fresh:
            assert Counter(data.reads) == Counter(opened + planned)
            assert loader.stats.scored - scored == len(planned)
        if epoch in stored:
            assert data.reads == given
            assert 0 < len(given) < SIZE + len(opened)
            assert loader.stats.scored == scored
        assert loader.stats.loaded - loaded == len(data.reads)


def test_pruned_samples_are_not_read() -> None:
    data = Numbers()
    loader = wrapped(InfoBatch(prune_ratio=0.5), data)
    for _ in loader:
        loader.reduce(loader.indices.float())
    data.reads.clear()
    run_epoch(loader)
    assert sorted(data.reads) == sorted(loader.ledger.trained_epoch.eq(1).nonzero().flatten().tolist())
    assert len(data.reads) == SIZE - 10


def test_planning_reads_nothing() -> None:
    data = Numbers()
    loader = wrapped(RS2(keep_ratio=0.5), data)
    assert len(loader) == 5
    assert loader.plan is not None
    assert data.reads == []


def test_stats_count() -> None:
    loader = wrapped(Adonis(stale_epochs=1), epochs=3)
    trained = sum(len(flat(run_epoch(loader))) for _ in range(3))
    assert (loader.stats.trained, loader.stats.scored) == (trained, 3 * SIZE)
    assert loader.stats.steps == -(-trained // 4)
    assert int(loader.ledger.trained.sum()) == trained
    assert torch.equal(loader.ledger.score, losses_at(2, torch.arange(SIZE)))
