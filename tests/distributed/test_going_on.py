"""Resume with several ranks: at any step on as many, between epochs on any number."""

import io
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist

from distributed.processes import LONG, on_ranks
from leantrain import Loader
from toys import METHODS, flat, losses_at, run_epoch, wrapped

EPOCHS = 4
pytestmark = pytest.mark.filterwarnings("ignore:Epoch .* kept too few samples")


def loader_of(method: str, batch_size: int = 4, **options: Any) -> Loader:
    order = torch.Generator().manual_seed(3)
    return wrapped(METHODS[method](), shuffle=True, generator=order, batch_size=batch_size, epochs=EPOCHS, **options)


def told(loader: Loader, states: list[bytes] | None = None, until: int | None = None) -> list[Any]:
    """Indices and loss of each step to the end; the state after each goes into ``states``."""
    given: list[Any] = []
    while loader.epoch < EPOCHS:
        for _ in loader:
            loss = loader.reduce(losses_at(loader.epoch, loader.indices))
            given.append((loader.epoch, loader.indices.tolist(), float(loss)))
            if states is not None:
                stored = io.BytesIO()
                torch.save(loader.state_dict(), stored)
                states.append(stored.getvalue())
            if len(given) == until:
                return given
    return given


IN_AN_EPOCH = ("infobatch", "kakurenbo", "adonis", "stale-sb", "ids|adonis", "random-pb", "iswr")
BETWEEN_EPOCHS = ("infobatch", "adonis", "stale-sb")


@cache
def straight_and_resumed() -> tuple[list[Any], list[Any]]:
    """What each rank told, by method, and by method and the step gone on from; a group runs them all."""

    def straight() -> Any:
        given = {}
        for method in IN_AN_EPOCH:
            states: list[bytes] = []
            given[method] = told(loader_of(method), states), states
        return given

    whole = on_ranks(2, straight, seconds=LONG)

    def resumed() -> Any:
        given = {}
        for method in IN_AN_EPOCH:
            states = whole[0][method][1]
            for step in range(1, len(states), 5):
                loader = loader_of(method)
                loader.load_state_dict(torch.load(io.BytesIO(states[step]), weights_only=True))
                given[method, step] = told(loader)
        return given

    return whole, on_ranks(2, resumed, seconds=LONG)


@pytest.mark.parametrize("method", IN_AN_EPOCH)
def test_two_ranks_go_on_from_any_step_with_the_state_of_the_first(method: str) -> None:
    whole, resumed = straight_and_resumed()
    states = whole[0][method][1]
    assert [len(rank[method][0]) for rank in whole] == [len(states)] * 2
    steps = [step for name, step in resumed[0] if name == method]
    assert steps
    for step in steps:
        assert [rank[method, step] for rank in resumed] == [rank[method][0][step + 1 :] for rank in whole], step


def test_both_ranks_give_the_same_state() -> None:
    def rank() -> str:
        loader = loader_of("stale-sb")
        told(loader, until=7)
        state = loader.state_dict()
        state["stats"] = {name: value for name, value in state["stats"].items() if not name.endswith("seconds")}
        return str(state)

    first, second = on_ranks(2, rank)
    assert first == second


@pytest.mark.parametrize(("before", "after"), [(2, 3), (1, 2), (4, 1)])
def test_another_number_of_ranks_goes_on_between_epochs(before: int, after: int, caplog: Any) -> None:
    def begun() -> Any:
        given = {}
        for method in BETWEEN_EPOCHS:
            loader = loader_of(method, 12 // before)
            given[method] = [flat(run_epoch(loader)) for _ in range(2)], loader.state_dict()
        return given

    first = on_ranks(before, begun) if before > 1 else [begun()]

    def goes_on() -> Any:
        given = {}
        for method in BETWEEN_EPOCHS:
            loader = loader_of(method, 12 // after)
            loader.load_state_dict(first[0][method][1])
            given[method] = [flat(run_epoch(loader)) for _ in range(2)]
        return given

    second = on_ranks(after, goes_on) if after > 1 else [goes_on()]
    for method in BETWEEN_EPOCHS:
        one = loader_of(method, 12)
        straight = [flat(run_epoch(one)) for _ in range(EPOCHS)]
        trained = [sorted(flat([rank[method][0][epoch] for rank in first])) for epoch in range(2)]
        trained += [sorted(flat([rank[method][epoch] for rank in second])) for epoch in range(2)]
        if method == "infobatch":
            assert trained == [sorted(epoch) for epoch in straight]
        assert abs(len(flat(trained)) - len(flat(straight))) < 12, method
    if after == 1:
        assert caplog.text.count(f"Epoch 2: from {before} ranks to 1.") == len(BETWEEN_EPOCHS)


def test_within_an_epoch_another_number_of_ranks_is_refused() -> None:
    def begun() -> Any:
        loader = loader_of("infobatch")
        told(loader, until=2)
        return loader.state_dict()

    state = on_ranks(2, begun)[0]
    with pytest.raises(ValueError, match=r"a loader on 2 ranks within epoch 0; here are 1\. Go on with 2, or from"):
        loader_of("infobatch").load_state_dict(state)


def test_facts_are_exchanged_before_a_state_is_taken_in_mid_epoch() -> None:
    def rank() -> Any:
        loader = loader_of("infobatch")
        own = told(loader, until=3)
        before = int(loader.ledger.trained.sum())
        state = loader.state_dict()
        return before, int(state["ledger"]["trained"].sum()), len(flat([indices for _, indices, _ in own]))

    assert dist.is_available()
    assert on_ranks(2, rank) == [(0, 24, 12)] * 2
