"""The figures of merit of a comparison, each method beside its control.

Accuracies are shares; drops and leads are percentage points (p.p.). Runs are paired by seed.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from leantrain.compare.controls import control, share, stopped
from leantrain.compare.costs import modelled_seconds, of, own, pooled_costs
from leantrain.compare.results import BEATS, FULL, LOSES, NOISE, UNKNOWN
from leantrain.compare.significance import holm, paired
from leantrain.train.facts import RunFacts

Row = dict[str, Any]

LEVEL = 0.05  # of a false verdict among all of a comparison
UNBALANCED = 1.5  # the largest class over the smallest; below it, none is rare
PAIRED_FROM = 3  # seeds; from two, a spread of one method's own says next to nothing


def summarise(runs: list[RunFacts], methods: list[str], budgets: Sequence[str] = ("time",)) -> list[Row]:
    """One row a method. A method without runs is left out.

    Boosts are ratios of modelled times (``modelled_seconds``); ``boost_by_clock`` is the plain ratio of measured ones,
    which another process on the machine can spoil. What is said of the control of the other budget than time has
    ``work_`` before its name; what is said of full training merely stopped at the method's time, ``stopped_``: where
    that does better than the control, the control is an easy rival. Of the rare classes is said what the runs'
    ``rare_classes_accuracy`` tell.
    """
    rows = [_row(method, runs) for method in methods if of(runs, method)]
    pooled = seed_noise(runs)
    for budget in budgets:
        _judge(rows, runs, budget, pooled)
    for row in rows:
        row |= _beside_stopped(row["method"], runs, pooled)
    return rows


def _judge(rows: list[Row], runs: list[RunFacts], budget: str, pooled: float | None) -> None:
    """Put each method's lead over its control into its row, the noise of such a lead, and the verdict.

    With ``PAIRED_FROM`` seeds or more the noise is the 95 % interval of the method's own paired leads, and the verdict
    asks for a p-value below ``LEVEL`` after Holm's correction for all methods: a lead beyond its interval may still be
    within noise. With two seeds the spread is pooled (``seed_noise``) and nothing is corrected.
    """
    prefix = "" if budget == "time" else f"{budget}_"
    for row in rows:
        row |= {prefix + name: value for name, value in _beside_control(row["method"], runs, budget, pooled).items()}
    judged = [row for row in rows if row[f"{prefix}p_value"] is not None]
    for row, adjusted in zip(judged, holm([row[f"{prefix}p_value"] for row in judged]), strict=True):
        row[f"{prefix}p_holm"] = adjusted
        noise = 0.0 if adjusted < LEVEL else math.inf
        row[f"{prefix}verdict"] = verdict(row[f"{prefix}control_accuracy_pp_ahead"], noise)


def _beside_control(method: str, runs: list[RunFacts], budget: str, pooled: float | None) -> Row:
    """The control's figures and the method's lead over it, judged where the noise is ``pooled``."""
    ours = of(runs, method)
    theirs, epochs = ({}, None) if method == FULL else control(runs, method, budget, lambda run: run.accuracy)
    leads, noise, p_value = _leads(ours, theirs, pooled)
    lead, pairs = _mean(leads), p_value is not None

    def over_classes(figure: Callable[[RunFacts], Any]) -> float | None:
        """Mean of the control's; None where a run does not tell it."""
        if not leads or any(figure(run) is None for run in runs):
            return None
        found, _ = control(runs, method, budget, figure)
        return _mean([found[run.seed] for run in ours if run.seed in theirs])

    return {
        "control_accuracy": _mean([theirs[run.seed] for run in ours if run.seed in theirs]),
        "control_worst_class_accuracy": over_classes(_worst),
        "control_rare_classes_accuracy": over_classes(lambda run: run.rare_classes_accuracy),
        "control_epochs": epochs,
        "control_accuracy_pp_ahead": lead,
        "control_accuracy_std": _std(leads),
        "noise_pp": noise,
        "noise_from": None if noise is None else "pairs" if pairs else "pooled",
        "p_value": p_value,
        "p_holm": None,
        "verdict": None if pairs else verdict(lead, noise),
    }


def _leads(
    ours: list[RunFacts], theirs: dict[int, float], pooled: float | None
) -> tuple[list[float], float | None, float | None]:
    """Leads in p.p. by seed over the accuracies ``theirs``, their noise, and a p-value where the pairs are enough."""
    leads = [100 * (run.accuracy - theirs[run.seed]) for run in ours if run.seed in theirs]
    noise, p_value = paired(leads) if len(leads) >= PAIRED_FROM else (pooled if leads else None, None)
    return leads, noise, p_value


def _beside_stopped(method: str, runs: list[RunFacts], pooled: float | None) -> Row:
    """The method's lead over full training merely stopped at its time; Nones where that was not tested so early."""
    ours = of(runs, method)
    theirs = {} if method == FULL else stopped(runs, method)
    leads, noise, _ = _leads(ours, theirs, pooled)
    return {
        "stopped_accuracy": _mean([theirs[run.seed] for run in ours if run.seed in theirs]),
        "stopped_accuracy_pp_ahead": _mean(leads),
        "stopped_noise_pp": noise,
    }


def seed_noise(runs: list[RunFacts]) -> float | None:
    """Half-width of the 95 % interval of a difference between two mean accuracies, in p.p.; None for a single seed.

    The spread over seeds is pooled over all configurations, since one from two or three seeds alone says little.
    """
    from scipy.stats import t

    groups: dict[tuple[Any, ...], list[float]] = {}
    for run in runs:
        which = run.method, run.control_for, run.budget, run.share
        groups.setdefault(which, []).append(100 * run.accuracy)
    repeated = [values for values in groups.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return None
    variance = sum(statistics.variance(values) * (len(values) - 1) for values in repeated) / freedom
    seeds = statistics.harmonic_mean([len(values) for values in groups.values()])
    return float(t.ppf(0.975, freedom)) * math.sqrt(2 * variance / seeds)


def verdict(lead: float | None, noise: float | None) -> str | None:
    """What a lead over the control of ``lead`` p.p. says, given the noise of such a difference; None: unknown."""
    if lead is None:
        return None
    if noise is None:
        return UNKNOWN
    if abs(lead) <= noise:
        return NOISE
    return BEATS if lead > 0 else LOSES


def _row(method: str, runs: list[RunFacts]) -> Row:
    fulls = {run.seed: run for run in of(runs, FULL)}
    pairs = [(fulls[run.seed], run) for run in of(runs, method) if run.seed in fulls]
    ours = [run for _, run in pairs]
    drops = [100 * (full.accuracy - run.accuracy) for full, run in pairs]
    costs = pooled_costs(own(runs))
    full_time = _mean([modelled_seconds(full, costs) for full, _ in pairs])
    our_time = _mean([modelled_seconds(run, costs) for run in ours])
    before = _mean([run.preprocess_seconds for run in ours])
    boost = full_time / our_time
    return {
        "method": method,
        "accuracy": _mean([run.accuracy for run in ours]),
        "accuracy_std": _std([run.accuracy for run in ours]),
        "accuracy_drop_pp": _mean(drops),
        "accuracy_drop_std": _std(drops),
        "boost": boost,
        "boost_with_preprocessing": full_time / (our_time + before),
        "boost_by_clock": sum(full.train_seconds for full, _ in pairs) / sum(run.train_seconds for run in ours),
        "boost_to_5pp": _boost_to_drop(pairs, 5.0, boost),
        "work_ratio": share(method, own(runs), "work"),
        "time_ratio": share(method, own(runs), "time"),
        "selection_share": _mean([run.selection_seconds / run.train_seconds for run in ours]),
        "balanced_accuracy": _known([_balanced(run) for run in ours]),
        "worst_class_accuracy": _known([_worst(run) for run in ours]),
        "rare_classes_accuracy": _known([run.rare_classes_accuracy for run in ours]),
    }


def _boost_to_drop(pairs: list[tuple[RunFacts, RunFacts]], drop: float, boost: float) -> float | None:
    """Whole time of full training over the time at which the method comes within ``drop`` p.p. of its final accuracy.

    ``boost`` over the share of its own training that the method needs for it. None unless it gets there with every
    seed.
    """
    shares = []
    for full, run in pairs:
        wanted = full.accuracy - drop / 100
        reached = [point.train_seconds for point in run.trajectory if (point.accuracy or 0) >= wanted]
        if not reached:
            return None
        shares.append(reached[0] / run.train_seconds)
    return boost / statistics.fmean(shares)


def _balanced(run: RunFacts) -> float | None:
    return statistics.fmean(run.class_accuracy) if run.class_accuracy else None


def _worst(run: RunFacts) -> float | None:
    return min(run.class_accuracy) if run.class_accuracy else None


def rarest(sizes: Sequence[int]) -> list[int]:
    """The third of the classes with the fewest of ``sizes`` (C,) samples; none where all are about as large."""
    if max(sizes) < UNBALANCED * min(sizes):
        return []
    return sorted(range(len(sizes)), key=sizes.__getitem__)[: max(1, len(sizes) // 3)]


def _known(values: Sequence[float | None]) -> float | None:
    """Their mean; None where one is."""
    return None if None in values else _mean(values)


def _mean(values: Sequence[Any]) -> Any:
    return statistics.fmean(values) if values else None


def _std(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
