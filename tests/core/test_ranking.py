"""Grouping by class, against a look over all labels for each class."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain.ranking import by_class


@given(st.lists(st.integers(-2, 4), max_size=40))
def test_positions_of_each_class(labels: list[int]) -> None:
    given = torch.tensor(labels, dtype=torch.int64)
    expected = [[i for i, its in enumerate(labels) if its == label] for label in sorted(set(labels))]
    assert [members.tolist() for members in by_class(given)] == expected
    backwards = [members[::-1] for members in expected]
    assert [members.tolist() for members in by_class(given, torch.arange(len(labels)).flip(0))] == backwards
