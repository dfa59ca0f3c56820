"""A DataLoader worker that is killed: the message says so, the last checkpoint holds, the resumed run ends alike."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from commands import Command, command, one_paragraph, same  # noqa: F401 - a fixture

from leantrain import Full, StaleSB
from leantrain.checkpoint.manager import Checkpoints
from leantrain.loader.unreadable_samples import DIED
from toys import Numbers, run_epoch, wrapped


class Deadly(Numbers):
    """Whoever reads sample 22 is killed, as by the system when memory runs out."""

    def __getitem__(self, index: int) -> tuple[int, int]:
        if index == 22:
            time.sleep(0.3)  # the loop waits for the loader by then; torch interrupts it wherever it is
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.parametrize("options", [{}, {"unreadable": "skip"}])
@pytest.mark.parametrize("selector", [Full, lambda: StaleSB(start_epoch=0)], ids=["full", "stale-sb"])
def test_the_loader_tells_what_happened(selector, options) -> None:
    """And does not read the deadly sample in this process to find out which one it is."""
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        run_epoch(wrapped(selector(), Deadly(), num_workers=2, **options))
    assert DIED in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, kept: bool = True) -> list[int]:
    """Kill a worker after that many steps of the process; ``kept``: checkpoints until then."""
    killed: list[int] = []
    after_step = Checkpoints.after_step

    def after(self, state):
        if kept:
            after_step(self, state)
        else:
            self._step += 1
        if self._step == step and not killed:
            worker = multiprocessing.active_children()[0]
            assert worker.pid is not None
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.2)  # until the signal is there, as in the midst of a long step

    monkeypatch.setattr(Checkpoints, "after_step", after)
    return killed


@pytest.mark.parametrize("method", ["full", "sb"])
def test_the_command_goes_on_from_the_last_checkpoint(method, command: Command, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    train = ("train", "--method", method, "--seed", 2)
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert command(*train, "--out", straight) == (0, "")
    killed = kill_at(monkeypatch, 7)
    code, said = command(*train, "--out", cut, settings="workers: 2")
    assert (code, len(killed)) == (1, 1)
    assert one_paragraph(said)
    assert f"pid {killed[0]}" in said.replace("(s)", "")
    assert DIED in said
    assert f"The checkpoint of step 7 in {cut / 'checkpoints'} is whole; --resume goes on from it" in said
    assert not (cut / "run.json").exists()
    assert command(*train, "--out", cut, "--resume", settings="workers: 1") == (0, "")  # which need less memory
    same(cut, straight)


def test_before_the_first_checkpoint(command: Command, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    kill_at(monkeypatch, 3, kept=False)
    code, said = command("train", "--out", tmp_path / "cut", settings="workers: 2")
    assert code == 1
    assert "No checkpoint was kept" in said
    assert command("train", "--out", tmp_path / "cut", "--resume") == (0, "")
    assert command("train", "--out", tmp_path / "straight") == (0, "")
    same(tmp_path / "cut", tmp_path / "straight")


def test_a_comparison_goes_on(command: Command, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    kill_at(monkeypatch, 4)
    words = ("compare", "--out", tmp_path / "c", "--methods", "rs2", "--epochs", 2)
    code, said = command(*words, settings="workers: 2")
    assert code == 1
    assert one_paragraph(said)
    assert command(*words, "--resume", settings="workers: 2") == (0, "")
    assert (tmp_path / "c" / "results.json").exists()
