"""The figures of merit, against hand-computed ones."""

import math
import statistics

import pytest
from scipy.stats import t, ttest_1samp

from leantrain.compare.controls import share
from leantrain.compare.costs import pooled_costs
from leantrain.compare.significance import holm, paired
from leantrain.compare.summary import rarest, seed_noise, summarise, verdict
from leantrain.train.facts import RunFacts


def run(method, seed, accuracy, *, control_for=None, trained=1000, scored=0, seconds=10.0, before=0.0, **more):
    costs = {"fetch": 0.001, "score": 0.002 if scored else None, "step": 0.01, "decide": 0.0}
    facts = {
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
        "costs": costs,
    }
    return RunFacts.model_validate(facts | more)


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
    assert share("sb", RUNS[:4], "time") == pytest.approx((0.9 + 1.0 + 4.0 + 1.0) / 11.0)


def test_one_slow_run_does_not_decide():
    costs = RUNS[3].costs.model_copy(update={"step": 5.0})
    slow = [*RUNS[:3], RUNS[3].model_copy(update={"costs": costs, "train_seconds": 2000.0})]
    assert share("sb", slow, "time") == share("sb", RUNS[:4], "time")
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
    assert summarise(RUNS[::2], ["sb"])[0]["verdict"] == "one seed: noise unknown"


@pytest.mark.parametrize(
    ("lead", "noise", "expected"),
    [(1.1, 1.0, "beats control"), (-1.1, 1.0, "loses to control"), (0.9, 1.0, "within noise"), (None, 1.0, None)],
)
def test_verdict(lead, noise, expected):
    assert verdict(lead, noise) == expected


def many(leads, method="sb", level=0.8, **more):
    """Runs of a method with one seed a lead, beside controls of its own."""
    ours = [run(method, seed, level + lead / 100, **more) for seed, lead in enumerate(leads)]
    return ours + [run("full", seed, level, control_for=method, budget="time") for seed in range(len(leads))]


def test_three_seeds_are_judged_by_their_own_pairs():
    leads = [1.0, 1.2, 1.1, 0.8, 1.4]
    runs = [run("full", seed, 0.9) for seed in range(5)] + many(leads)
    row = summarise(runs, ["full", "sb"])[1]
    assert row["control_accuracy_pp_ahead"] == pytest.approx(1.1)
    # t(0.975) with 4 degrees of freedom is 2.776; the leads' variance (0.01 + 0.01 + 0.09 + 0.09) / 4
    assert row["noise_pp"] == pytest.approx(2.776 * math.sqrt(0.05 / 5), rel=1e-3)
    assert row["p_value"] == pytest.approx(ttest_1samp(leads, 0).pvalue)
    assert row["noise_from"] == "pairs"
    assert row["verdict"] == "beats control"


def test_spread_that_a_method_shares_with_its_control_is_no_noise():
    """Seeds differ by ten points, the lead hardly: pairs see it, a pooled spread does not."""
    runs = [run("full", seed, 0.9) for seed in range(4)]
    for seed, level in enumerate((0.6, 0.7, 0.8, 0.9)):
        runs += [run("sb", seed, level + 0.02 + 0.001 * seed), run("full", seed, level, control_for="sb")]
    row = summarise(runs, ["sb"])[0]
    assert row["verdict"] == "beats control"
    assert seed_noise(runs) > 5


def test_verdicts_are_corrected_for_many_methods():
    leads = [0.1, 0.9, 0.5, 0.2, 0.8]  # p = 0.030 alone
    alone = [run("full", seed, 0.9) for seed in range(5)] + many(leads)
    assert summarise(alone, ["full", "sb"])[1]["verdict"] == "beats control"
    others = [more for name in ("iswr", "ies") for more in many([1.0, -1.1, 0.3, -0.2, 0.1], name)]
    rows = {row["method"]: row for row in summarise([*alone, *others], ["full", "sb", "iswr", "ies"])}
    p_values = [rows[name]["p_value"] for name in ("sb", "iswr", "ies")]
    by_hand = multipletests(p_values)
    assert [rows[name]["p_holm"] for name in ("sb", "iswr", "ies")] == pytest.approx(by_hand)
    assert abs(rows["sb"]["control_accuracy_pp_ahead"]) > rows["sb"]["noise_pp"]
    assert rows["sb"]["verdict"] == "within noise"


def multipletests(p_values):
    """Holm by his own words: test the smallest at level / m, the next at level / (m - 1), stop at the first that fails.

    The adjusted value is the smallest level at which a hypothesis is rejected, found here by trying levels.
    """
    found = []
    for index in range(len(p_values)):
        low, high = 0.0, 1.0
        for _ in range(60):
            level = (low + high) / 2
            low, high = (low, level) if index in rejected(p_values, level) else (level, high)
        found.append(high)
    return found


def rejected(p_values, level):
    out = []
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > level / (len(p_values) - place):
            break
        out.append(index)
    return out


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.2], [0.02], [0.3, 0.011, 0.012, 0.9]])
def test_holm_rejects_what_his_procedure_rejects(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values))


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("found", [[0.3, -0.1, 0.4, 0.9], [-2.0, -2.1], [1e-3, 0.0, 0.0]])
def test_an_interval_by_its_formula(found, level):
    error = statistics.stdev(found) / math.sqrt(len(found))
    half, p_value = paired(found, level)
    assert half == pytest.approx(t.ppf((1 + level) / 2, len(found) - 1) * error)
    assert p_value == pytest.approx(2 * t.sf(abs(statistics.fmean(found)) / error, len(found) - 1))


def test_seeds_that_agree_to_the_last_digit():
    assert paired([0.0, 0.0, 0.0]) == (0.0, 1.0)
    assert paired([1.0, 1.0, 1.0]) == (0.0, 0.0)
    assert paired([0.82 - 0.81, 0.72 - 0.71, 0.5 - 0.49]) == (0.0, 0.0)  # 0.01 each, but for rounding
    assert 0 < paired([0.01, 0.01 + 1e-9])[1] < 1e-6
    assert holm([]) == []


def line(seed, ends):
    return [run("full", seed, accuracy, control_for="line", share=share, epochs=4 * share) for share, accuracy in ends]


def test_a_control_read_off_a_line_lies_between_its_neighbours():
    ends = {0: [(0.25, 0.5), (0.5, 0.7)], 1: [(0.25, 0.4), (0.5, 0.6)]}
    runs = [run("full", seed, 0.8) for seed in (0, 1)] + [r for seed in (0, 1) for r in line(seed, ends[seed])]
    # work: (1000 + 2 x 1000) / 3000 = 1 for full; 0.35355 is halfway between 0.25 and 0.5 by its logarithm
    runs += [run("rs2", seed, 0.7, trained=1000 / math.sqrt(8)) for seed in (0, 1)]
    runs += [run("half", seed, 0.7, trained=500) for seed in (0, 1)]
    rows = {row["method"]: row for row in summarise(runs, ["full", "rs2", "half"], ("time", "work"))}
    for prefix in ("", "work_"):
        assert rows["rs2"][f"{prefix}control_accuracy"] == pytest.approx((0.6 + 0.5) / 2)
        assert rows["rs2"][f"{prefix}control_epochs"] == pytest.approx(4 / math.sqrt(8))
        assert rows["half"][f"{prefix}control_accuracy"] == pytest.approx((0.7 + 0.6) / 2)
    assert rows["rs2"]["control_accuracy_pp_ahead"] == pytest.approx(15.0)
    assert rows["full"]["control_accuracy"] is None


def test_no_line_is_drawn_beyond_its_ends():
    runs = [run("full", 0, 0.8), *line(0, [(0.5, 0.7)]), run("rs2", 0, 0.7, trained=400)]
    row = summarise(runs, ["rs2"])[0]
    assert row["control_accuracy"] is None
    assert row["verdict"] is None


def test_a_control_by_work_is_told_from_one_by_time():
    # 2 s before the training: time 0.4 + 2 / 11, work 0.4
    runs = [run("full", 0, 0.9), run("sb", 0, 0.85, trained=400, before=2.0)]
    runs += [
        run("full", 0, 0.84, control_for="sb", budget="time"),
        run("full", 0, 0.8, control_for="sb", budget="work"),
    ]
    row = summarise(runs, ["sb"], ("time", "work"))[0]
    assert row["control_accuracy_pp_ahead"] == pytest.approx(1.0)
    assert row["work_control_accuracy_pp_ahead"] == pytest.approx(5.0)


def test_one_control_serves_both_budgets_where_they_agree():
    runs = [run("full", 0, 0.9), run("sb", 0, 0.85, trained=400), run("full", 0, 0.84, control_for="sb", budget="time")]
    row = summarise(runs, ["sb"], ("time", "work"))[0]
    assert row["work_control_accuracy"] == row["control_accuracy"] == 0.84


def test_full_training_stopped_at_the_time_of_a_method():
    # four epochs; 0.6 of the time is 2.4 of them, two fifths of the way from the second test's 0.8 to the third's 0.97
    ends = [0.9, 0.91, 0.92]
    runs = [run("full", seed, end) for seed, end in enumerate(ends)]
    runs += [run("rs2", seed, 0.7, trained=600) for seed in range(3)]
    runs += [run("iswr", seed, 0.7) for seed in range(3)] + [run("few", seed, 0.2, trained=200) for seed in range(3)]
    runs += [run("full", seed, 0.1, control_for="rs2") for seed in range(3)]
    full, rs2, iswr, few = summarise(runs, ["full", "rs2", "iswr", "few"])
    leads = [100 * (0.7 - end * (0.8 + 0.4 * 0.17)) for end in ends]
    assert rs2["verdict"] == "beats control"
    assert rs2["stopped_accuracy"] == pytest.approx(0.868 * 0.91)
    assert rs2["stopped_accuracy_pp_ahead"] == pytest.approx(statistics.mean(leads))
    assert rs2["stopped_noise_pp"] == pytest.approx(t.ppf(0.975, 2) * statistics.stdev(leads) / math.sqrt(3))
    for row in (full, iswr, few):  # of no less time than full training, or ended before its first test
        assert row["stopped_accuracy"] is row["stopped_accuracy_pp_ahead"] is row["stopped_noise_pp"] is None


def test_accuracies_by_class():
    by_class = [[0.9, 0.5, 0.7], [0.8, 0.7, 0.9]]
    runs = [run("full", seed, 0.7, class_accuracy=by_class[seed]) for seed in (0, 1)]
    row = summarise(runs, ["full"])[0]
    assert row["balanced_accuracy"] == pytest.approx((0.7 + 0.8) / 2)
    assert row["worst_class_accuracy"] == pytest.approx((0.5 + 0.7) / 2)
    assert summarise(RUNS, ["full"])[0]["worst_class_accuracy"] is None


def test_accuracies_over_the_rare_classes():
    assert rarest([5, 5, 5, 5]) == rarest([14, 10, 11, 12]) == []
    assert rarest([9, 2]) == [1]
    assert rarest([70, 10, 30, 20, 90, 40, 10]) == [1, 6]
    runs = [
        run("full", 0, 0.8, rare_classes_accuracy=0.6),
        run("full", 1, 0.8, rare_classes_accuracy=0.4),
        run("full", 0, 0.7, control_for="sb", rare_classes_accuracy=0.3),
        run("full", 1, 0.7, control_for="sb", rare_classes_accuracy=0.2),
        run("sb", 0, 0.7, trained=400, rare_classes_accuracy=0.5),
        run("sb", 1, 0.7, trained=400, rare_classes_accuracy=0.1),
    ]
    full, sb = summarise(runs, ["full", "sb"])
    assert full["rare_classes_accuracy"] == pytest.approx(0.5)
    assert full["control_rare_classes_accuracy"] is None
    assert sb["rare_classes_accuracy"] == pytest.approx(0.3)
    assert sb["control_rare_classes_accuracy"] == pytest.approx(0.25)
    runs[-1].rare_classes_accuracy = None
    assert summarise(runs, ["sb"])[0]["rare_classes_accuracy"] is None
