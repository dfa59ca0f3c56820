"""Grouping by class, against a look over all labels for each class."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain.ranking import classes


@given(st.lists(st.integers(-2, 4), max_size=40))
def test_classes(labels: list[int]) -> None:
    expected = {label: [i for i, its in enumerate(labels) if its == label] for label in sorted(set(labels))}
    found = classes(torch.tensor(labels, dtype=torch.int64))
    assert {label: members.tolist() for label, members in found} == expected
    assert [label for label, _ in found] == list(expected)
