"""The state of a loader: what is kept of a run, and how it goes on from there."""

import copy
import logging
from dataclasses import fields
from typing import Any

from torch import Tensor

from leantrain.core.plan import Plan
from leantrain.core.selector import name_of
from leantrain.loader import dataloader
from leantrain.loader.epochs import Epochs

NEEDED = {"epoch", "open", "selector", "ledger", "generators", "running", "stats", "ranks"}
log = logging.getLogger("leantrain")


def save(epochs: Epochs) -> dict[str, Any]:
    """See ``Loader.state_dict``."""
    epochs.exchange.flush()
    ledger = epochs.exchange.ledger.state_dict()
    if epochs.resumed is not None and epochs.at_start is None:  # loaded, and nothing done since
        return copy.deepcopy(epochs.resumed) | {"ledger": ledger}
    course, running, untold = epochs.sampler.course, None, []
    if epochs.at_start is None:  # between two epochs
        selector = epochs.selector.state_dict() if epochs.plan is None else epochs.before_plan
        opened, draws = epochs.open.indices, dataloader.draws(epochs.user)
    elif course is None or not course.begun:  # nothing of the running epoch is done yet
        selector, opened, draws = epochs.before_plan, epochs.at_start[1], epochs.draws
    else:
        # What is decided ahead of loading is decided again, from the epoch's start; see SelectionSampler.
        selector, opened = epochs.at_start
        selector = epochs.selector.state_dict() if epochs.sampler.fresh else selector
        draws = dataloader.draws(epochs.user)
        untold = [batch.parts for batch in epochs.presented.untold] if epochs.expected else []
        running = {
            "plan": epochs.plan and epochs.plan.state_dict(),
            "pool_size": epochs.sampler.pool_size,
            "course": _values(course) | {"again": untold + course.again},
            "held": epochs.open.held if epochs.sampler.fresh else [],
            "position": epochs.position,
            "epochs": epochs.run.epochs,  # where the length was told in steps, what they come to
        }
    state = {
        "epoch": epochs.number,
        "open": opened,
        "selector": selector,
        "generators": draws,
        "running": running,
        "stats": epochs.stats.state_dict() | {"batches": epochs.stats.batches - len(untold)},
        "done": epochs.done,
        "ranks": epochs.ranks.count,
        "run": _facts(epochs),
    }
    return copy.deepcopy(state) | {"ledger": ledger}  # a copy already, and the largest part


def load(epochs: Epochs, state: dict[str, Any]) -> None:
    """See ``Loader.load_state_dict``."""
    if missing := NEEDED - state.keys():
        raise ValueError(f"This is not a Loader's state: it lacks {', '.join(sorted(missing))}.")
    if state["ranks"] != epochs.ranks.count:
        if state["running"]:
            raise ValueError(
                f"This is the state of a loader on {state['ranks']} ranks within epoch {state['epoch']}; here are "
                f"{epochs.ranks.count}. Go on with {state['ranks']}, or from a state saved between two epochs."
            )
        log.warning("Epoch %d: from %d ranks to %d.", state["epoch"], state["ranks"], epochs.ranks.count)
    _check(state.get("run", {}), _facts(epochs), state)
    dataloader.set_draws(epochs.user, state["generators"])
    epochs.exchange.ledger.load_state_dict(state["ledger"])
    state = copy.deepcopy({name: value for name, value in state.items() if name != "ledger"})
    epochs.selector.load_state_dict(state["selector"])
    epochs.stats.load_state_dict(state["stats"])
    epochs.done = state.get("done")
    running = state["running"]
    epochs.restart(state["epoch"], state["open"], state if running else None)
    if running:
        if "held" in running["course"]:  # of an older version
            running["held"] = running["course"].pop("held")
        epochs.plan, epochs.position = Plan.of(running["plan"]), running["position"]
        epochs.run.epochs = running.get("epochs", epochs.run.epochs) if epochs.steps else epochs.run.epochs
        epochs.sampler.pool_size = running.get("pool_size", epochs.run.size)


def _facts(epochs: Epochs) -> dict[str, Any]:
    """What two loaders must agree on for one to go on from the other's state."""
    run = epochs.run
    return {
        "method": name_of(epochs.selector),
        "data set": f"{run.size:,} samples {run.fingerprint}",
        "batch size": run.batch_size // epochs.ranks.count,
    }


def _check(theirs: dict[str, Any], ours: dict[str, Any], state: dict[str, Any]) -> None:
    """ValueError where a state is of another run. Between epochs another batch size may go on."""
    for name, value in theirs.items():
        if value != ours.get(name) and (name != "batch size" or (state["running"] and state["ranks"])):
            where = f" within epoch {state['epoch']}" if name == "batch size" else ""
            raise ValueError(
                f"This is the state of a loader whose {name} is {value!r}{where}; here it is {ours.get(name)!r}. Make "
                "the loader as before, or start anew."
                + (" A state saved between two epochs can go on with another one." if where else "")
            )


def _values(record: Any) -> dict[str, Tensor | Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}
