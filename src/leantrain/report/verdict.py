"""What the comparison says, in words a reader can check against the table."""

from leantrain.compare.results import BEATS, FULL, LOSES, NOISE, Results

CLAIM = "beat training for fewer epochs in the same time"
RANDOM = frozenset({"rs2", "rpc", "rpd", "random-pb"})  # choose at random: whatever they win is not the choice's doing


def sentences(results: Results) -> tuple[str, str]:
    """The headline: who beat the equal-time control, by how much, what became of the others. And a caveat or ""."""
    seeds = len({run.seed for run in results.of(FULL)})
    if seeds > 1:
        return _headline(results), _easy_control(results)
    return f"With one seed: {_headline(results)}", (
        "The spread between seeds is unknown, so no difference here can be told from chance. "
        "Repeat with three seeds or more before believing any of them."
    )


def noise(results: Results, method: str) -> float | None:
    """The margin in p.p. that the verdict on `method` asks for; the spread of its lead where none is given."""
    given = results.value(method, "noise_pp")
    return results.value(method, "control_accuracy_std") if given is None else given


def _headline(results: Results) -> str:
    judged = [method for method in results.methods if method != FULL]
    if not judged:
        return "Only full training was run, so there is nothing to compare it with."
    by: dict[str, list[str]] = {BEATS: [], NOISE: [], LOSES: [], "unknown": []}
    for method in judged:
        by.get(results.verdict(method) or "", by["unknown"]).append(method)
    winners, total = by[BEATS], len(judged)
    if total == 1:
        said = {
            BEATS: f"{_ahead(results, judged[0])} {CLAIM}.",
            NOISE: f"{judged[0]} did not {CLAIM}: these runs cannot tell the two apart.",
            LOSES: f"{judged[0]} did not {CLAIM}: it lost to it.",
        }
        return next((said[key] for key in said if by[key]), f"{judged[0]} could not be judged against its control.")
    others = [
        f"{len(names)} {word}"
        for names, word in (
            (by[NOISE], "cannot be told from it"),
            (by[LOSES], "lost to it"),
            (by["unknown"], "could not be judged"),
        )
        if names
    ]
    rest = f"; {_join(others)}" if others else ""
    if winners:
        return f"{len(winners)} of {total} methods {CLAIM}: {_join([_ahead(results, w) for w in winners])}{rest}."
    return f"None of the {total} methods {CLAIM}{rest}."


def _easy_control(results: Results) -> str:
    """Who did not lose to the control, but does to full training merely stopped at the same time; "" for nobody."""
    behind = []
    for method in results.methods:
        lead, margin = (results.value(method, f"stopped_{key}") for key in ("accuracy_pp_ahead", "noise_pp"))
        spared = results.verdict(method) in (BEATS, NOISE)
        if spared and lead is not None and margin is not None and lead < -margin:
            behind.append(f"{method} (by {-lead:.2f} p.p.)")
    if not behind:
        return ""
    return (
        f"Full training merely stopped after the same time, its schedule not compressed, is ahead of {_join(behind)} "
        "beyond the noise. With this schedule the control is an easy rival."
    )


def _ahead(results: Results, method: str) -> str:
    gain = results.value(method, "control_accuracy_pp_ahead")
    notes = [] if gain is None else [f"{gain:+.2f} p.p."]
    if method in RANDOM:
        notes.append("random subsets, no choice by content")
    return f"{method} ({', '.join(notes)})" if notes else method


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
