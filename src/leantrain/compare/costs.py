"""What a run cost: its modelled seconds, from counts and median costs a sample, and its work."""

import statistics
from collections.abc import Iterable, Sequence

from leantrain.train.facts import RunFacts


def modelled_seconds(run: RunFacts, costs: dict[str, float]) -> float:
    """Time of a run from counts and median costs a sample, so that a noisy machine does not decide.

    ``costs`` are those of ``pooled_costs``. Plans and decisions, with the gradient passes that some plans need, are as
    measured; so is pre-processing, which is left out here.
    """
    steps = {part.pixels: part.samples for part in run.smaller}
    steps[1.0] = run.backward_samples - run.aside.backward - sum(steps.values())
    return (
        (run.loaded_samples - run.aside.forward) * costs["fetch"]
        + run.scored_samples * costs["score"]
        + sum(samples * costs[_step(pixels)] for pixels, samples in steps.items())
        + run.costs.decide
    )


def pooled_costs(runs: Sequence[RunFacts]) -> dict[str, float]:
    """Median cost a sample of fetching, scoring and training over all runs: the work is the same in each.

    Training on inputs of fewer pixels has a cost of its own for each size.
    """
    known: dict[str, list[float]] = {"fetch": [], "score": [], "step": []}
    for run in runs:
        costs = {name: getattr(run.costs, name) for name in ("fetch", "score", "step")}
        for name, cost in (costs | {_step(part.pixels): part.step for part in run.smaller}).items():
            known.setdefault(name, []).extend([] if cost is None else [cost])
    return {name: statistics.median(costs) if costs else 0.0 for name, costs in known.items()}


def _step(pixels: float) -> str:
    return "step" if pixels == 1 else f"step at {pixels:g} of the pixels"


def of(runs: Iterable[RunFacts], method: str, control_for: str | None = None) -> list[RunFacts]:
    """The runs of ``method``, by seed; or the control runs made for another one."""
    found = [run for run in runs if run.method == method and run.control_for == control_for]
    return sorted(found, key=lambda run: run.seed)


def own(runs: Iterable[RunFacts]) -> list[RunFacts]:
    """The methods' own runs, controls left out."""
    return [run for run in runs if run.control_for is None]


def work(run: RunFacts) -> float:
    """Passes of a sample through a model, a backward pass counted as two forward passes; by pixels."""
    spared = sum((1 - part.pixels) * part.samples for part in run.smaller)
    return run.forward_samples + 2 * run.backward_samples - 3 * spared
