"""When a run is kept on disk, and what becomes of SIGTERM: kept, then exit code 143.

Several ranks decide together at each step; rank 0 writes what all of them go on from, in a folder that all can read.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from leantrain.checkpoint.format import load_latest, remove, save
from leantrain.distributed.process_group import Ranks

Facts = dict[str, Any]

EPOCHS = "epochs"  # folder of the checkpoint at the end of an epoch
log = logging.getLogger("leantrain")
TERMINATED = 143  # the exit code of a process that SIGTERM ended


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: of these checkpoints and nothing else.
        seconds: between two; 0 keeps every step. Several ranks also keep the end of the last epoch: there, and not
            within an epoch, another number of ranks may go on.
    """

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self.folder, self.seconds = folder, seconds
        self._last = time.monotonic()
        self._step = 0
        self._kept: int | None = None  # step of the newest whole checkpoint
        self._facts: Facts = {}
        self._terminated = False
        self._ranks: Ranks | None = None

    def open(self, facts: Facts, ranks: Ranks, complete: Callable[[Facts], Facts] = lambda found: found) -> Any:
        """The state of the newest whole checkpoint, or None. ``facts`` name the run; those of another are refused.

        ``complete`` makes of the facts that an earlier version kept what they are today.
        """
        self._facts, self._ranks = facts, ranks

        def check(found: Facts) -> None:
            found = complete(found)
            other = [name for name in facts if found.get(name) != facts[name]]
            if other:
                name = other[0]
                raise ValueError(
                    f"{self.folder} holds checkpoints of another run: its {name} is {found.get(name)!r}, this run's is "
                    f"{facts[name]!r}. Give another folder, or remove them to start anew."
                )

        found = load_latest(self.folder, check=check) if self.folder.is_dir() else None
        if found and not _fits(found.state, ranks.count):
            before, epochs = found.state["session"]["loader"]["ranks"], self.folder / EPOCHS
            found = load_latest(epochs, check=check) if epochs.is_dir() else None
            if found is None:
                raise ValueError(
                    f"{self.folder} holds a training on {before} ranks, none of whose epochs is finished. Go on with "
                    f"{before} ranks, or remove it to start anew."
                )
            log.warning(
                "The run was on %d ranks and is on %d now: it goes on from its last whole epoch.", before, ranks.count
            )
        ranks.any(False)  # all have read, before one writes
        if found and ranks.rank == 0 and found.path.parent != self.folder:  # those within its epoch are passed over
            remove(self.folder)
        self._last = time.monotonic()
        self._step, self._kept = (found.step, found.step) if found else (0, None)
        return found.state if found else None

    def after_step(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep ``state()`` if it is time to; end the process if SIGTERM asked for it."""
        assert self._ranks is not None, "open() comes first"
        self._step += 1
        if self._ranks.any(self._terminated or time.monotonic() - self._last >= self.seconds):
            self._save(self.folder, state())
            if self._ranks.any(self._terminated):
                raise SystemExit(TERMINATED)

    def after_epoch(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep ``state()`` for another number of ranks to go on from, if there are several."""
        assert self._ranks is not None, "open() comes first"
        if self._ranks.count > 1:
            self._save(self.folder / EPOCHS, state(), keep=1)

    def _save(self, folder: Path, state: dict[str, Any], keep: int = 2) -> None:
        if self._ranks is None or self._ranks.rank == 0:
            save(folder, state, step=self._step, facts=self._facts, keep=keep)
        self._kept = self._step
        self._last = time.monotonic()

    def finish(self) -> None:
        """The run is finished and its result kept: the checkpoints go, other files in their folder stay.

        Ends the process if SIGTERM came meanwhile.
        """
        if self._ranks is None or self._ranks.rank == 0:
            remove(self.folder / EPOCHS)
            remove(self.folder)
        if self._terminated:
            raise SystemExit(TERMINATED)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Within, SIGTERM waits for the running step; and an error says from where the run can go on."""
        begun = self._step
        try:
            with self._on_sigterm():
                yield
        except Exception as error:
            if self._kept is not None:
                error.add_note(
                    f"The checkpoint of step {self._kept} in {self.folder} is whole; --resume goes on from it."
                )
            elif self._step > begun:
                error.add_note(f"No checkpoint was kept in {self.folder} yet: the run starts anew.")
            raise

    @contextlib.contextmanager
    def _on_sigterm(self) -> Iterator[None]:
        """Within, SIGTERM waits for the running step, then keeps the run. Only the main thread can see to signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_terminated", True))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _fits(state: Any, ranks: int) -> bool:
    loader = state["session"]["loader"]
    return loader["ranks"] == ranks or loader["running"] is None
