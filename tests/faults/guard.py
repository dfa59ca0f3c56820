"""What a reader must not do: write outside its folder, start a program, open a socket, run or import foreign code.

Python's audit events tell of all of these but of what C libraries do by themselves; for those, ``Guard.outside`` lists
what lies beside the folder. A hook cannot be taken away, so there is one a process, asleep outside of ``watching``.
"""

import collections
import contextlib
import dataclasses
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = frozenset(
    [
        *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
        *("os.chown", "os.utime", "os.setxattr", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
    ]
)
NEVER = (
    *("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill"),
    *("os.putenv", "os.chdir", "socket.", "urllib.", "ctypes.dlopen", "ctypes.dlsym", "pickle.find_class"),
    *("builtins.input", "webbrowser.", "sys.settrace"),
)
# What readers are made of and import when they need it.
PACKAGES = {
    *("leantrain", "numpy", "torch", "PIL", "pyarrow", "safetensors", "yaml", "pydantic", "pydantic_core", "jinja2"),
    *("markupsafe", "matplotlib", "mpl_toolkits", "fontTools", "pandas", "scipy", "typing_extensions"),
}
FOREIGN = {"antigravity", "this", "webbrowser", "ctypes", "subprocess", "pty", "tkinter", "turtle", "idlelib", "code"}
KNOWN = PACKAGES | (sys.stdlib_module_names - FOREIGN)


class Guard:
    """Watches readers that may write below ``folder`` and nowhere else."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self.found: list[str] = []
        self._active = False
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """AssertionError at the end if a reader within tried what it must not; it is also stopped on the spot."""
        self._active = True
        try:
            yield
        finally:
            self._active = False
            if self.found:
                found, self.found = self.found, []
                raise AssertionError(f"a reader must not do this: {found}")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        self._active = False  # looking at a frame is heard of, too
        try:
            caller = sys._getframe(1).f_code.co_filename
            if self._forbidden(event, arguments, caller):
                self.found.append(f"{event} {arguments!r:.300} in {caller}")
                raise PermissionError(self.found[-1])  # which a reader may swallow, hence the list
        finally:
            self._active = True

    def _forbidden(self, event: str, arguments: tuple[Any, ...], caller: str) -> bool:
        if event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else flags & WRITES
            return bool(writes) and not isinstance(path, int) and self._outside(path)
        if event in CHANGES:
            names = [a for a in arguments if isinstance(a, str | bytes | os.PathLike)]
            last = arguments[-1]  # for most of them the descriptor of a folder, or -1
            within = f"/proc/self/fd/{last}" if type(last) is int and last >= 0 and event != "os.truncate" else ""
            names = [os.path.join(os.fsencode(within), os.fsencode(name)) for name in names]
            return any(map(self._outside, names[1:] if event == "os.symlink" else names))
        if event == "import":
            return arguments[0].partition(".")[0] not in KNOWN
        if event == "exec":  # code of a module's file is that of an import; all else was made of text
            made = isinstance(arguments[0], types.CodeType) and not arguments[0].co_filename.startswith(
                ("/", "<frozen ")
            )
            # The report's own template; and methods of named tuples and data classes, which imports define.
            ours = made and arguments[0].co_filename == "<template>"
            return made and not ours and caller not in (collections.__file__, dataclasses.__file__)
        return event.startswith(NEVER)

    def _outside(self, path: Any) -> bool:
        place = os.path.realpath(os.fsdecode(path))
        return place != self.folder and not place.startswith(self.folder + os.sep)

    def outside(self) -> list[str]:
        """What lies beside the folder and in the working directory."""
        return sorted([*os.listdir(os.path.dirname(self.folder)), *os.listdir(".")])
