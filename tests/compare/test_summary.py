"""The figures of merit, against hand-computed ones."""

import math
import statistics

import pytest
from scipy.stats import t

from leantrain.compare.summary import pooled_costs, seed_noise, summarise, time_ratio, verdict


def run(method, seed, accuracy, *, control_for=None, trained=1000, scored=0, seconds=10.0, before=0.0, **more):
    costs = {"fetch": 0.001, "score": 0.002 if scored else None, "step": 0.01, "decide": 0.0}
    return {
        "method": method,
        "control_for": control_for,
        "seed": seed,
        "epochs": 4.0,
        "accuracy": accuracy,
        "train_seconds": seconds,
        "preprocess_seconds": before,
        "selection_seconds": 0.5,
        "total_seconds": seconds + before,
        "forward_samples": trained + scored,
        "backward_samples": trained,
        "loaded_samples": trained + scored,
        "scored_samples": scored,
        "trajectory": [
            {"epoch": i, "train_seconds": seconds * (i + 1) / 4, "accuracy": accuracy * share}
            for i, share in enumerate((0.5, 0.8, 0.97, 1.0))
        ],
        "costs": costs | more.pop("costs", {}),
    } | more


RUNS = [
    run("full", 0, 0.90, seconds=11.0),
    run("full", 1, 0.92, seconds=11.0),
    run("sb", 0, 0.86, trained=400, scored=500, seconds=7.0, before=1.0),
    run("sb", 1, 0.90, trained=400, scored=500, seconds=7.0, before=1.0),
    run("full", 0, 0.80, control_for="sb"),
    run("full", 1, 0.81, control_for="sb"),
]


def test_time_ratio_counts_medians_and_preprocessing():
    # sb: 900 loaded at 0.001, 500 scored at 0.002, 400 steps at 0.01, and 1 s before; full: 1000 x 0.011
    assert time_ratio("sb", RUNS[:4]) == pytest.approx((0.9 + 1.0 + 4.0 + 1.0) / 11.0)


def test_one_slow_run_does_not_decide():
    slow = [*RUNS[:3], RUNS[3] | {"costs": RUNS[3]["costs"] | {"step": 5.0}, "train_seconds": 2000.0}]
    assert time_ratio("sb", slow) == time_ratio("sb", RUNS[:4])
    assert pooled_costs(slow)["step"] == 0.01


def test_row_of_a_method():
    full, sb = summarise(RUNS, ["full", "sb"])
    assert sb["accuracy_drop_pp"] == pytest.approx(3.0)
    assert sb["accuracy_drop_std"] == pytest.approx(statistics.stdev([4.0, 2.0]))
    assert sb["boost"] == pytest.approx(11.0 / 5.9)
    assert sb["boost_with_preprocessing"] == pytest.approx(11.0 / 6.9)
    assert sb["boost_by_clock"] == pytest.approx(22.0 / 14.0)
    assert sb["work_ratio"] == pytest.approx((900 + 2 * 400) / 3000)
    assert sb["control_accuracy_pp_ahead"] == pytest.approx(statistics.mean([6.0, 9.0]))
    assert sb["verdict"] == "beats control"
    assert full["verdict"] is None
    assert full["boost"] == 1.0
    assert full["accuracy_drop_pp"] == 0.0


def test_boost_to_5_pp_uses_the_whole_time_of_full_training():
    # full ends at 0.9: 0.85 wanted; 0.88 x 0.97 = 0.8536 is reached after three quarters of the method's time
    runs = [run("full", 0, 0.9), run("rs2", 0, 0.88, trained=500, seconds=5.0)]
    rs2 = summarise(runs, ["rs2"])[0]
    assert rs2["boost_to_5pp"] == pytest.approx(2.0 / 0.75)
    never = [run("full", 0, 0.9), run("rs2", 0, 0.5, trained=500, seconds=5.0)]
    assert summarise(never, ["rs2"])[0]["boost_to_5pp"] is None


def test_noise_pools_the_variance_over_configurations():
    groups = [[90.0, 92.0], [86.0, 90.0], [80.0, 81.0]]
    pooled = statistics.mean([statistics.variance(group) for group in groups])
    expected = t.ppf(0.975, 3) * math.sqrt(2 * pooled / 2)
    assert seed_noise(RUNS) == pytest.approx(expected)


def test_one_seed_gives_no_verdict_beyond_noise():
    assert seed_noise(RUNS[::2]) is None
    assert summarise(RUNS[::2], ["sb"])[0]["verdict"] == "within noise"


@pytest.mark.parametrize(
    ("lead", "noise", "expected"),
    [(1.1, 1.0, "beats control"), (-1.1, 1.0, "loses to control"), (0.9, 1.0, "within noise"), (None, 1.0, None)],
)
def test_verdict(lead, noise, expected):
    assert verdict(lead, noise) == expected
