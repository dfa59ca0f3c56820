"""The state of a loader: what is kept of a run, and how it goes on from there."""

import copy
import logging
from dataclasses import fields
from typing import Any

from leantrain.core.plan import Plan
from leantrain.loader import dataloader

log = logging.getLogger("leantrain")


def save(loader: Any) -> dict[str, Any]:
    """See ``Loader.state_dict``."""
    loader._exchange.flush(loader.epoch)
    ledger = loader.ledger.state_dict()
    if loader._resumed is not None and loader._at_start is None:  # loaded, and nothing done since
        return copy.deepcopy(loader._resumed) | {"ledger": ledger}
    course = loader._stream.course
    if loader._at_start is None or course is None or not course.begun:  # nothing of a running epoch is done yet
        between = loader._at_start is None
        selector = loader.selector.state_dict() if between and loader._plan is None else loader._before_plan
        opened = loader._open.indices if loader._at_start is None else loader._at_start[1]
        running, draws = None, dataloader.draws(loader._user) if between else loader._draws
    else:
        plan = loader._plan
        assert plan is not None
        # What is decided ahead of loading is decided again, from the epoch's start; see Stream.
        selector, opened = loader._at_start
        running = {
            "plan": {field.name: getattr(plan, field.name) for field in fields(plan)},
            "course": {field.name: getattr(course, field.name) for field in fields(course)},
            "held": loader._open.held if loader._stream.fresh else [],
            "position": loader._position,
        }
        selector = loader.selector.state_dict() if loader._stream.fresh else selector
        draws = dataloader.draws(loader._user)
    facts = {
        "epoch": loader.epoch,
        "open": opened,
        "selector": selector,
        "generators": draws,
        "running": running,
        "stats": loader.stats.state_dict(),
        "ranks": loader.ranks.count,
    }
    return copy.deepcopy(facts) | {"ledger": ledger}  # a copy already, and the largest part


def load(loader: Any, state: dict[str, Any]) -> None:
    """See ``Loader.load_state_dict``."""
    missing = {"epoch", "open", "selector", "ledger", "generators", "running", "stats", "ranks"} - state.keys()
    if missing:
        raise ValueError(f"This is not a Loader's state: it lacks {', '.join(sorted(missing))}.")
    if state["ranks"] != loader.ranks.count:
        if state["running"]:
            raise ValueError(
                f"This is the state of a loader on {state['ranks']} ranks within epoch {state['epoch']}; here are "
                f"{loader.ranks.count}. Go on with {state['ranks']}, or from a state saved between two epochs."
            )
        log.warning("Epoch %d: from %d ranks to %d.", state["epoch"], state["ranks"], loader.ranks.count)
    dataloader.set_draws(loader._user, state["generators"])
    loader.ledger.load_state_dict(state["ledger"])
    state = copy.deepcopy({name: value for name, value in state.items() if name != "ledger"})
    loader.selector.load_state_dict(state["selector"])
    loader.stats.load_state_dict(state["stats"])
    loader.epoch, loader._open.indices, loader._plan = state["epoch"], state["open"], None
    loader._at_start, loader._reduced, loader._position = None, False, 0.0
    loader._resumed = state if state["running"] else None
    if loader._resumed:
        loader._resumed["running"].setdefault("held", loader._resumed["running"]["course"].pop("held", None))
        loader._plan = Plan(**loader._resumed["running"]["plan"])
        loader._position = loader._resumed["running"]["position"]
