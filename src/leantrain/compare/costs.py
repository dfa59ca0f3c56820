"""What a run cost: its modelled seconds, from counts and median costs a sample, and its work."""

import statistics
from collections.abc import Iterable, Sequence

from leantrain.train.facts import RunFacts


def modelled_seconds(run: RunFacts, costs: dict[str, float]) -> float:
    """Time of a run from counts and median costs a sample, so that a noisy machine does not decide.

    ``costs`` are those of ``pooled_costs``. Plans and decisions, with the gradient passes that some plans need, are as
    measured; so is pre-processing, which is left out here.
    """
    return (
        (run.loaded_samples - run.aside.forward) * costs["fetch"]
        + run.scored_samples * costs["score"]
        + (run.backward_samples - run.aside.backward) * costs["step"]
        + run.costs.decide
    )


def pooled_costs(runs: Sequence[RunFacts]) -> dict[str, float]:
    """Median cost a sample of fetching, scoring and training over all runs: the work is the same in each."""
    pooled = {}
    for name in ("fetch", "score", "step"):
        known = [cost for run in runs if (cost := getattr(run.costs, name)) is not None]
        pooled[name] = statistics.median(known) if known else 0.0
    return pooled


def of(runs: Iterable[RunFacts], method: str, control_for: str | None = None) -> list[RunFacts]:
    """The runs of ``method``, by seed; or the control runs made for another one."""
    found = [run for run in runs if run.method == method and run.control_for == control_for]
    return sorted(found, key=lambda run: run.seed)


def own(runs: Iterable[RunFacts]) -> list[RunFacts]:
    """The methods' own runs, controls left out."""
    return [run for run in runs if run.control_for is None]


def work(run: RunFacts) -> float:
    """Passes of a sample through a model, a backward pass counted as two forward passes."""
    return run.forward_samples + 2 * run.backward_samples
