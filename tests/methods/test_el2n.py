"""EL2N and GraNd: which scores stay (references/forget.py); the scores themselves in tests/embed/test_difficulty.py."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import references.forget as reference
from leantrain import RPD
from leantrain.methods.el2n import EL2N, GraNd
from toys import SIZE, flat, run_epoch, setup, wrapped


def kept(selector: EL2N, pool: torch.Tensor | None = None, epoch: int = 0, **facts: Any) -> list[int]:
    selector = setup(selector, **facts)
    return selector.plan(epoch, torch.arange(selector.run.size) if pool is None else pool).indices.tolist()


@pytest.mark.parametrize("method", [EL2N, GraNd])
@given(
    scores=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40, unique=True),
    prune_ratio=st.sampled_from(["0", "0.1", "0.3", "0.55", "0.9"]),
    keep=st.sampled_from(["hard", "easy"]),
)
def test_subsets(method: Any, scores: list[float], prune_ratio: str, keep: str) -> None:
    ours = kept(method(scores=torch.tensor(scores), prune_ratio=float(prune_ratio), keep=keep), size=len(scores))
    count = len(scores) - reference.dropped(len(scores), prune_ratio)
    assert ours == reference.kept([score if keep == "hard" else -score for score in scores], count)


@given(
    scores=st.permutations(range(30)),
    ratios=st.sampled_from([("0.3", "0"), ("0.3", "0.1"), ("0.3", "0.3"), ("0.55", "0.25"), ("0.9", "0.07")]),
)
def test_the_offset_leaves_the_hardest_out(scores: list[float], ratios: tuple[str, str]) -> None:
    prune_ratio, offset = ratios
    selector = EL2N(scores=torch.tensor(scores), prune_ratio=float(prune_ratio), offset=float(offset))
    skip = reference.dropped(30, offset)
    assert kept(selector, size=30) == reference.kept(scores, 30 - reference.dropped(30, prune_ratio), skip=skip)


def test_infinite_scores_are_the_hardest() -> None:
    scores = torch.tensor([1.0, torch.inf, 0.0, 2.0])
    assert kept(EL2N(scores=scores, prune_ratio=0.5), size=4) == [1, 3]
    assert kept(EL2N(scores=scores, prune_ratio=0.5, keep="easy"), size=4) == [0, 2]


def test_within_a_pool() -> None:
    scores = torch.arange(SIZE).float()
    pool = torch.tensor([5, 1, 30, 2])
    assert kept(EL2N(scores=scores, prune_ratio=0.5), pool) == [5, 30]
    assert kept(EL2N(scores=scores, prune_ratio=0.5, offset=0.25), pool) == [2, 5]
    loader = wrapped(RPD(keep_ratio=0.5) | EL2N(scores=scores, prune_ratio=0.5))
    assert len(flat(run_epoch(loader))) == 10


def test_equal_scores_are_drawn_by_the_seed_and_fixed() -> None:
    plans = [kept(EL2N(scores=torch.ones(SIZE)), epoch=epoch, seed=seed) for seed, epoch in [(0, 0), (0, 7), (1, 0)]]
    assert plans[0] == plans[1] != plans[2]


def test_a_data_set_of_one() -> None:
    assert kept(EL2N(scores=torch.zeros(1), prune_ratio=0.9, offset=0.9), size=1) == [0]


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        (EL2N, {}, 10),
        (GraNd, {}, 0),
        (EL2N, {"probe_epochs": 0.1}, 9),
        (GraNd, {"probe_epochs": 0.004}, 1),
        (GraNd, {"probe_epochs": 0.0}, 0),
    ],
)
def test_a_callable_is_told_the_probe_epochs_once(method: Any, settings: dict[str, Any], expected: int) -> None:
    asked = []

    def scores(epochs: int) -> torch.Tensor:
        asked.append(epochs)
        return torch.arange(SIZE)

    selector = setup(method(scores=scores, **settings), epochs=90)
    assert asked == []
    for epoch in range(3):
        assert selector.plan(epoch, torch.arange(SIZE)).indices.tolist() == list(range(12, SIZE))
    assert asked == [expected]


def test_the_state_holds_the_ranking() -> None:
    first = setup(EL2N(scores=lambda _: torch.zeros(SIZE)), epochs=90)
    plan = first.plan(0, torch.arange(SIZE))
    second = setup(EL2N(scores=lambda _: pytest.fail("asked again")), seed=5, epochs=90)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.plan(1, torch.arange(SIZE)).indices, plan.indices)


@pytest.mark.parametrize("method", [EL2N, GraNd])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"prune_ratio": 1}, r"prune_ratio=1 is outside \[0, 1\)"),
        ({"prune_ratio": 50}, r"prune_ratio=50 .* pass 0\.5"),
        ({"keep": "heard"}, "keep 'heard'. Did you mean 'hard'"),
        ({"offset": 0.4}, "offset=0.4 drops more than prune_ratio=0.3 in all"),
        ({"offset": -0.1}, r"offset=-0.1 is outside \[0, 1\)"),
        ({"offset": 0.1, "keep": "easy"}, 'offset=0.1 has no effect with keep="easy"'),
        ({"probe_epochs": -1}, "probe_epochs=-1 must be at least 0"),
        ({"probe_epochs": 2.0}, r"probe_epochs=2.0 is outside \[0, 1\]"),
        ({"scores": [1, 2]}, r"scores must be a \(N,\) tensor or a callable of the probe epochs"),
    ],
)
def test_wrong_settings(method: Any, settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        method(**({"scores": torch.zeros(SIZE)} | settings))


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (torch.zeros(SIZE - 1), r"scores have shape \(39,\); expected \(40,\)"),
        (torch.zeros(SIZE, 3), r"scores have shape \(40, 3\)"),
        (torch.full((SIZE,), torch.nan), "scores of 40 samples are NaN"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["given", "made later"])
def test_wrong_scores(scores: torch.Tensor, text: str, late: bool) -> None:
    with pytest.raises(ValueError, match=text):
        kept(EL2N(scores=(lambda _: scores) if late else scores), epochs=90)


def test_a_share_needs_the_length_of_the_training() -> None:
    with pytest.raises(ValueError, match=r"GraNd with probe_epochs as a share of the training.*epochs=90"):
        setup(GraNd(scores=lambda _: torch.zeros(SIZE), probe_epochs=0.2), epochs=None)


def test_settings_leave_the_scores_out() -> None:
    expected = {"prune_ratio": 0.3, "keep": "hard", "offset": 0.0}
    assert EL2N(scores=torch.zeros(1)).settings() == expected | {"probe_epochs": 10}
    assert GraNd(scores=torch.zeros(1)).settings() == expected | {"probe_epochs": 0}
