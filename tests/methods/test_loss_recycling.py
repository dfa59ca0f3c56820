"""``score="recycle"`` against a plain loop (references/recycle.py)."""

from typing import Any

import pytest
import torch
from torch import Tensor

import references.adonis as reference
from leantrain import IDS, SB, Adonis, Batch, Selector, StaleSB
from leantrain.rng import generator
from references.recycle import train
from toys import SIZE, Numbers, embedding, flat, losses_at, run_epoch, setup, wrapped

EPOCHS, EVERYONE = 8, torch.arange(SIZE)


def refreshed_at(epoch: int, indices: Tensor) -> Tensor:
    """What a scoring pass says; training steps say ``losses_at``."""
    return 3 - losses_at(epoch + 50, indices)


def order(epoch: int, count: int) -> list[int]:
    return torch.randperm(count, generator=generator(0, epoch, "recycle")).tolist()


def trained_and_refreshed(selector: Selector, *, scoring: bool = True) -> list[tuple[list[int], list[int]]]:
    scored: list[int] = []

    def score(batch: Any) -> Tensor:
        scored.extend(batch[0].tolist() if loader.stats.steps else [])  # before any step it is only tried
        return refreshed_at(loader.epoch, batch[0])

    loader = wrapped(selector, epochs=EPOCHS, shuffle=True, score=score if scoring else None)
    found = []
    for _ in range(EPOCHS):
        scored.clear()
        loaded = loader.stats.loaded
        trained = sorted(flat(run_epoch(loader)))
        assert loader.stats.loaded - loaded == len(trained) + len(scored)  # nothing is loaded to be rejected
        found.append((trained, sorted(scored)))
    return found


@pytest.mark.parametrize("refresh", ["score", "train"])
@pytest.mark.parametrize("max_age", [1, 2, 4])
@pytest.mark.parametrize(("start_epoch", "joined"), [(0, 1), (2, 3)])
def test_a_whole_training_of_adonis(refresh: Any, max_age: int, start_epoch: int, joined: int) -> None:
    settings: dict[str, Any] = {"theta": 0.1, "history": 24, "rule": "sturges", "sigma": 1.5}
    slow = reference.Adonis(**settings)
    expected = train(
        [losses_at(epoch, EVERYONE).tolist() for epoch in range(EPOCHS)],
        [refreshed_at(epoch, EVERYONE).tolist() for epoch in range(EPOCHS)],
        order=order,
        batch_size=4 * joined,
        start_epoch=start_epoch,
        max_age=max_age,
        refresh=refresh,
        judge=lambda losses: slow.judge(losses)[0],
    )
    own = {"score": "recycle", "max_age": max_age, "refresh": refresh, "start_epoch": start_epoch}
    selector = Adonis(alpha=1.0, scoring_batches=joined, **own, **settings)
    found = trained_and_refreshed(selector, scoring=refresh == "score")
    assert found == expected
    if max_age == 1:
        assert all(refreshed for _, refreshed in found[start_epoch + 1 : -1]) == (refresh == "score")


class Noting(SB):
    """SB that notes what it is asked."""

    def setup(self, run: Any) -> None:
        super().setup(run)
        self.asked: list[Batch] = []

    def select(self, batch: Batch) -> Tensor:
        self.asked.append(batch)
        return super().select(batch)


def test_sb_judges_each_sample_once_an_epoch_by_its_last_loss() -> None:
    selector = Noting(beta=1.0, score="recycle", max_age=2)
    loader = wrapped(selector, epochs=EPOCHS, shuffle=True)
    for epoch in range(EPOCHS):
        selector.asked.clear()
        known = loader.ledger.loss.clone()
        given = flat(run_epoch(loader))
        if epoch == 0:
            assert selector.asked == []
            assert sorted(given) == list(range(SIZE))
            continue
        asked = torch.cat([batch.indices for batch in selector.asked])
        assert asked.sort().values.tolist() == list(range(SIZE))
        assert torch.equal(torch.cat([batch.losses for batch in selector.asked]), known[asked])
        assert [batch.number for batch in selector.asked] == list(range(10))
        assert {batch.epoch for batch in selector.asked} == {epoch}
        assert 0 < len(given) < SIZE


@pytest.mark.parametrize("refresh", ["score", "train"])
@pytest.mark.parametrize("max_age", [1, 3])
def test_no_loss_that_is_judged_is_older_than_max_age(refresh: Any, max_age: int) -> None:
    selector = Noting(beta=3.0, score="recycle", max_age=max_age, refresh=refresh)
    loader = wrapped(selector, epochs=12)
    ages = set()
    for epoch in range(12):
        seen = loader.ledger.loss_epoch.clone().long()
        selector.asked.clear()
        run_epoch(loader)
        ages |= {age for batch in selector.asked for age in (epoch - seen[batch.indices]).tolist()}
    assert ages == set(range(1, max_age + 1))


def test_what_is_not_in_the_pool_is_neither_trained_on_nor_scored() -> None:
    """IDS turns from easy to hard: what comes new is trained on once, whatever it lost before."""
    ids = IDS(features=embedding(), keep_ratio=0.5, switch_epoch=3)
    labels = torch.tensor(Numbers().targets)
    pools = [set(setup(ids, targets=labels).plan(epoch, EVERYONE).indices.tolist()) for epoch in range(EPOCHS)]
    chain = IDS(features=embedding(), keep_ratio=0.5, switch_epoch=3) | SB(beta=1.0, score="recycle", max_age=3)
    found = trained_and_refreshed(chain)
    for (trained, refreshed), pool in zip(found, pools, strict=True):
        assert set(trained) | set(refreshed) <= pool
    assert pools[3] - pools[2] <= set(found[3][0])
    assert len(found[4][0]) < len(pools[4])


def test_a_score_is_asked_for_only_where_it_is_used() -> None:
    assert SB().needs == Adonis().needs == {"score"}
    assert SB(score="recycle").needs == Adonis(score="recycle").needs == {"loss", "score"}
    assert SB(score="recycle", refresh="train").needs == {"loss"}
    with pytest.raises(ValueError, match="needs a scoring function"):
        wrapped(Adonis(theta="auto", score="recycle"), score=None)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (SB, {"score": "recyle"}, "score 'recyle'. Did you mean 'recycle'"),
        (Adonis, {"max_age": 0}, "max_age=0 must be at least 1"),
        (SB, {"refresh": "never"}, "refresh 'never'.*score, train"),
        (Adonis, {"score": "recycle", "stale_epochs": 3}, "stale_epochs=3 is about scoring passes.* Set max_age"),
        (StaleSB, {"score": "recycle"}, 'score="recycle" has none. Use SB'),
    ],
)
def test_settings_out_of_range(method: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(**settings)
