"""The share of a group, and private random streams."""

from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leantrain.rng import choose, generator
from leantrain.utils import validation


@given(percent=st.integers(1, 100), total=st.integers(0, 100_000))
def test_portion_is_the_exact_ceiling(percent: int, total: int) -> None:
    assert validation.portion(percent / 100, total) == ceil(Fraction(percent, 100) * total)


def test_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"^Unknown fruit 'aple'\. Did you mean 'apple'\? Known: pear, apple\.$"):
        validation.one_of("fruit", "aple", ["pear", "apple"])
    with pytest.raises(ValueError, match=r"^Unknown fruit 'xyz'\. Known: pear, apple\.$"):
        validation.one_of("fruit", "xyz", ["pear", "apple"])


@given(count=st.integers(0, 50), data=st.data())
def test_choose(count: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, count))
    chosen = choose(count, keep, generator(0, 0, "test")).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) == keep
    assert all(0 <= position < count for position in chosen)


def test_choose_is_uniform_over_pairs() -> None:
    pairs = Counter(tuple(choose(4, 2, generator(0, 0, "test", n)).tolist()) for n in range(6000))
    assert len(pairs) == 6
    assert all(abs(times - 1000) < 5 * (6000 * 1 / 6 * 5 / 6) ** 0.5 for times in pairs.values())


def test_streams_differ_by_every_part_of_their_name_and_nothing_else() -> None:
    names = [
        (0, 0, "a", 0),
        (1, 0, "a", 0),
        (0, 1, "a", 0),
        (0, 0, "b", 0),
        (0, 0, "a", 1),
        (0, 11, "a", 1),
        (0, 1, "a", 11),
    ]
    draws = [tuple(torch.rand(3, generator=generator(*name)).tolist()) for name in names]
    assert len(set(draws)) == len(names)
    torch.manual_seed(77)
    assert draws == [tuple(torch.rand(3, generator=generator(*name)).tolist()) for name in names]


@pytest.mark.parametrize(
    ("ratio", "total", "count"), [(0.55, 100, 55), (0.07, 100, 7), (0.5, 3, 2), (0.1, 1, 1), (1, 9, 9)]
)
def test_portion_rounds_up_but_not_for_a_binary_fraction(ratio: float, total: int, count: int) -> None:
    assert validation.portion(ratio, total) == count


def test_streams_of_neighbouring_numbers_differ() -> None:
    names = [(1, 11, "a", 1), (11, 1, "a", 1), (1, 1, "1a", 1), (1, 1, "a", 11), (1, 11, "a", 11)]
    assert len({generator(*name).initial_seed() for name in names}) == len(names)
    assert generator(1, 2, "a").initial_seed() == generator(1, 2, "a").initial_seed()


def test_numbers_that_nothing_holds_are_refused() -> None:
    assert validation.integer("n", 2**63 - 1, least=0) == 2**63 - 1
    with pytest.raises(ValueError, match=r"^n=9223372036854775808 must be at most 9,223,372,036,854,775,807\.$"):
        validation.integer("n", 2**63, least=0)
    with pytest.raises(ValueError, match=r"^n=9 must be at most 8\.$"):
        validation.integer("n", 9, least=0, most=8)
    for value in (float("inf"), float("nan"), 10**400):
        with pytest.raises(ValueError, match="x"):
            validation.positive("x", value)
        with pytest.raises(ValueError, match="x"):
            validation.fraction("x", value)
