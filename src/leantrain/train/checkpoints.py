"""When a run is kept on disk, and what becomes of SIGTERM: kept, then exit code 143."""

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from leantrain.checkpoint import load_latest, save

TERMINATED = 143  # the exit code of a process that SIGTERM ended


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: of these checkpoints and nothing else.
        seconds: between two; 0 keeps every step.
    """

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self.folder, self.seconds = folder, seconds
        self._last = time.monotonic()
        self._step = 0
        self._kept: int | None = None  # step of the newest whole checkpoint
        self._facts: dict[str, Any] = {}
        self._terminated = False

    def open(self, facts: dict[str, Any]) -> Any:
        """The state of the newest whole checkpoint, or None. ``facts`` name the run; those of another are refused."""
        self._facts = facts

        def check(found: dict[str, Any]) -> None:
            other = [name for name in facts if found.get(name) != facts[name]]
            if other:
                name = other[0]
                raise ValueError(
                    f"{self.folder} holds checkpoints of another run: its {name} is {found.get(name)!r}, this run's is "
                    f"{facts[name]!r}. Give another folder, or remove them to start anew."
                )

        found = load_latest(self.folder, check=check) if self.folder.is_dir() else None
        self._last = time.monotonic()
        self._step, self._kept = (found.step, found.step) if found else (0, None)
        return found.state if found else None

    def after_step(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep ``state()`` if it is time to; end the process if SIGTERM asked for it."""
        self._step += 1
        if self._terminated or time.monotonic() - self._last >= self.seconds:
            save(self.folder, state(), step=self._step, facts=self._facts)
            self._kept = self._step
            self._last = time.monotonic()
        if self._terminated:
            raise SystemExit(TERMINATED)

    def finish(self) -> None:
        """The run is finished and its result kept: the checkpoints go. Ends the process if SIGTERM came meanwhile."""
        shutil.rmtree(self.folder, ignore_errors=True)
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
