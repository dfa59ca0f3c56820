"""Whatever loop, sampler and method meet: each sample keeps its own loss and weight, or an error names the cause."""

import os

import pytest
from any_loop import LOOPS, SAMPLERS, Case, cases, check, run
from hypothesis import given, settings

from toys import METHODS


@settings(max_examples=50)
@given(cases())
def test_any_loop_over_any_sampler(case):
    check(case)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("sampler", ["shuffle", "budget"])
def test_each_loop(loop, sampler):
    check(Case("infobatch", sampler, loop, 5, False, 2, None, None, 7, 0, False, None, 3))


@pytest.mark.parametrize("loop", ["plain", "two ahead"])
def test_workers(loop):
    check(Case("sb", "subset", loop, 5, False, 2, None, None, 7, 2, False, None, 3))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_cases():
    found = run(int(os.environ.get("LEANTRAIN_EXAMPLES", "5000")), int(os.environ.get("LEANTRAIN_SEED", "0")))
    assert found["examples"] >= 5000 or "LEANTRAIN_EXAMPLES" in os.environ
    assert found["ends"].keys() == {"trained", "resumed", "refused"}
    assert found["method"].keys() == METHODS.keys()
    assert found["sampler"].keys() == SAMPLERS.keys()
    assert found["loop"].keys() == LOOPS.keys()
