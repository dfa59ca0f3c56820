"""The figures of merit of a comparison, each method beside its equal-time control.

Accuracies are shares; drops and leads are percentage points (p.p.). Runs are paired by seed.
"""

import math
import statistics
from typing import Any

Run = dict[str, Any]


def modelled_seconds(run: Run, costs: dict[str, float]) -> float:
    """Time of a run from counts and median costs a sample, so that a noisy machine does not decide.

    ``costs`` are those of ``pooled_costs``. Plans and decisions, with the gradient passes that some plans need, are as
    measured; so is pre-processing, which is left out here.
    """
    aside = run.get("aside", {"forward": 0, "backward": 0})
    return (
        (run["loaded_samples"] - aside["forward"]) * costs["fetch"]
        + run.get("scored_samples", 0) * costs["score"]
        + (run["backward_samples"] - aside["backward"]) * costs["step"]
        + run["costs"]["decide"]
    )


def pooled_costs(runs: list[Run]) -> dict[str, float]:
    """Median cost a sample of fetching, scoring and training over all runs: the work is the same in each."""
    pooled = {}
    for name in ("fetch", "score", "step"):
        known = [run["costs"][name] for run in runs if run["costs"][name] is not None]
        pooled[name] = statistics.median(known) if known else 0.0
    return pooled


def time_ratio(method: str, runs: list[Run]) -> float:
    """Modelled time of ``method``, pre-processing included, over that of full training; means over seeds."""
    costs = pooled_costs(runs)
    theirs = [modelled_seconds(run, costs) + run["preprocess_seconds"] for run in of(runs, method)]
    full = [modelled_seconds(run, costs) for run in of(runs, "full")]
    return statistics.fmean(theirs) / statistics.fmean(full)


def of(runs: list[Run], method: str, control_for: str | None = None) -> list[Run]:
    """The runs of ``method``, by seed; or the control runs made for another one."""
    found = [run for run in runs if run["method"] == method and run["control_for"] == control_for]
    return sorted(found, key=lambda run: run["seed"])


def summarise(runs: list[Run], methods: list[str]) -> list[dict[str, Any]]:
    """One row a method. A method without runs is left out.

    Boosts are ratios of modelled times (``modelled_seconds``); ``boost_by_clock`` is the plain ratio of measured ones,
    which another process on the machine can spoil.
    """
    noise = seed_noise(runs)
    return [_row(method, runs, noise) for method in methods if of(runs, method)]


def seed_noise(runs: list[Run]) -> float | None:
    """Half-width of the 95 % interval of a difference between two mean accuracies, in p.p.; None for a single seed.

    The spread over seeds is pooled over all configurations, since one from two or three seeds alone says little.
    """
    from scipy.stats import t

    groups: dict[tuple[str, str | None], list[float]] = {}
    for run in runs:
        groups.setdefault((run["method"], run["control_for"]), []).append(100 * run["accuracy"])
    repeated = [values for values in groups.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return None
    variance = sum(statistics.variance(values) * (len(values) - 1) for values in repeated) / freedom
    seeds = statistics.harmonic_mean([len(values) for values in groups.values()])
    return float(t.ppf(0.975, freedom)) * math.sqrt(2 * variance / seeds)


def verdict(lead: float | None, noise: float | None) -> str | None:
    """What a lead over the equal-time control of ``lead`` p.p. says, given the noise of such a difference."""
    if lead is None:
        return None
    if noise is None or abs(lead) <= noise:
        return "within noise"
    return "beats control" if lead > 0 else "loses to control"


def _row(method: str, runs: list[Run], noise: float | None) -> dict[str, Any]:
    pairs = _by_seed(of(runs, "full"), of(runs, method))
    drops = [100 * (full["accuracy"] - ours["accuracy"]) for full, ours in pairs]
    control_pairs = _by_seed(of(runs, "full", method), of(runs, method))
    leads = [100 * (ours["accuracy"] - control["accuracy"]) for control, ours in control_pairs]
    lead = _mean(leads)
    costs = pooled_costs([run for run in runs if run["control_for"] is None])
    full_time = _mean([modelled_seconds(full, costs) for full, _ in pairs])
    our_time = _mean([modelled_seconds(ours, costs) for _, ours in pairs])
    before = _mean([ours["preprocess_seconds"] for _, ours in pairs])
    boost = full_time / our_time
    return {
        "method": method,
        "accuracy": _mean([ours["accuracy"] for _, ours in pairs]),
        "accuracy_std": _std([ours["accuracy"] for _, ours in pairs]),
        "accuracy_drop_pp": _mean(drops),
        "accuracy_drop_std": _std(drops),
        "boost": boost,
        "boost_with_preprocessing": full_time / (our_time + before),
        "boost_by_clock": sum(full["train_seconds"] for full, _ in pairs) / sum(o["train_seconds"] for _, o in pairs),
        "boost_to_5pp": _boost_to_drop(pairs, 5.0, boost),
        "work_ratio": _mean([_work(ours) / _work(full) for full, ours in pairs]),
        "time_ratio": time_ratio(method, [run for run in runs if run["control_for"] is None]),
        "selection_share": _mean([ours["selection_seconds"] / ours["train_seconds"] for _, ours in pairs]),
        "control_accuracy": _mean([control["accuracy"] for control, _ in control_pairs]),
        "control_epochs": _mean([control["epochs"] for control, _ in control_pairs]),
        "control_accuracy_pp_ahead": lead,
        "control_accuracy_std": _std(leads),
        "noise_pp": noise,
        "verdict": verdict(lead, noise),
    }


def _boost_to_drop(pairs: list[tuple[Run, Run]], drop: float, boost: float) -> float | None:
    """Whole time of full training over the time at which the method comes within ``drop`` p.p. of its final accuracy.

    ``boost`` over the share of its own training that the method needs for it. None unless it gets there with every
    seed.
    """
    shares = []
    for full, ours in pairs:
        wanted = full["accuracy"] - drop / 100
        reached = [point["train_seconds"] for point in ours["trajectory"] if point["accuracy"] >= wanted]
        if not reached:
            return None
        shares.append(reached[0] / ours["train_seconds"])
    return boost / statistics.fmean(shares)


def _work(run: Run) -> int:
    return run["forward_samples"] + 2 * run["backward_samples"]


def _by_seed(left: list[Run], right: list[Run]) -> list[tuple[Run, Run]]:
    others = {run["seed"]: run for run in right}
    return [(run, others[run["seed"]]) for run in left if run["seed"] in others]


def _mean(values: list[float]) -> Any:
    return statistics.fmean(values) if values else None


def _std(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
