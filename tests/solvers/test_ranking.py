"""Grouping by class, and the lowest values, against a look over all of them."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain.solvers.ranking import by_class, highest, lowest


@given(st.lists(st.integers(-2, 4) | st.sampled_from([2**16 - 1, 2**16]), max_size=40))
def test_positions_of_each_class(labels: list[int]) -> None:
    given = torch.tensor(labels, dtype=torch.int64)
    expected = [[i for i, its in enumerate(labels) if its == label] for label in sorted(set(labels))]
    assert [members.tolist() for members in by_class(given)] == expected
    backwards = [members[::-1] for members in expected]
    assert [members.tolist() for members in by_class(given, torch.arange(len(labels)).flip(0))] == backwards


VALUES = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf, math.nan])


@given(st.lists(VALUES, max_size=12), st.data())
def test_the_lowest_values_ties_by_position_and_nan_last(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    rising = sorted(range(len(values)), key=lambda i: math.inf if math.isnan(values[i]) else values[i])
    assert lowest(torch.tensor(values), count).nonzero().flatten().tolist() == sorted(rising[:count])


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1), st.sampled_from([0.0, 0.3, 0.5]))
def test_the_highest_ranks_of_a_pool_after_those_skipped(rank: list[int], pool: set[int], skip: float) -> None:
    falling = sorted(pool, key=lambda i: -rank[i])
    skipped = math.floor(skip * len(pool))
    expected = sorted(falling[skipped : skipped + math.ceil(0.5 * len(pool))])
    assert highest(torch.tensor(rank), torch.tensor(sorted(pool)), 0.5, skip=skip).tolist() == expected
