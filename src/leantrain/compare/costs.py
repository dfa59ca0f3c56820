"""What a run cost: its modelled seconds, from counts and median costs a sample, and its work."""

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


def of(runs: list[Run], method: str, control_for: str | None = None) -> list[Run]:
    """The runs of ``method``, by seed; or the control runs made for another one."""
    found = [run for run in runs if run["method"] == method and run["control_for"] == control_for]
    return sorted(found, key=lambda run: run["seed"])


def work(run: Run) -> int:
    """Passes of a sample through a model, a backward pass counted as two forward passes."""
    return run["forward_samples"] + 2 * run["backward_samples"]
