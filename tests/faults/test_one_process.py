"""Two processes on one folder: the second is refused and told who the first is; a dead one holds nothing."""

import multiprocessing
import os
import signal
import time

import pytest
from commands import Command, command  # noqa: F401 - a fixture

from leantrain.utils.atomic_write import occupied


def hold(folder, held):
    with occupied(folder):
        held.set()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_the_second_names_the_first(holder, tmp_path):
    with pytest.raises(ValueError, match=rf"is in use by process {holder.pid} on "), occupied(tmp_path):
        pass


def test_a_killed_process_leaves_no_lock(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with occupied(tmp_path):
        pass


@pytest.mark.parametrize("name", ["compare", "train"])
def test_the_commands_are_refused(holder, name, command: Command, tmp_path):  # noqa: F811
    code, said = command(name, "--out", tmp_path)
    assert code == 2
    assert f"in use by process {holder.pid}" in said


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; give a folder"), occupied(tmp_path / "file"):
        pass


def test_afterwards_the_folder_is_free(tmp_path):
    for _ in range(2):
        with occupied(tmp_path / "new"):
            pass


def test_no_lock_is_left_behind_and_no_link_followed(tmp_path):
    with occupied(tmp_path / "out"):
        assert (tmp_path / "out" / ".lock").exists()
    assert list((tmp_path / "out").iterdir()) == []
    target = tmp_path / "precious"
    target.write_text("keep")
    (tmp_path / "out" / ".lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"), occupied(tmp_path / "out"):
        pass
    assert target.read_text() == "keep"


def test_a_worker_of_the_holder_neither_frees_nor_names_it(tmp_path):
    with occupied(tmp_path):
        worker = multiprocessing.get_context("fork").Process(target=os.getpid)
        worker.start()
        worker.join()
        with pytest.raises(ValueError, match=rf"is in use by process {os.getpid()} on "), occupied(tmp_path):
            pass
    with occupied(tmp_path):
        pass
