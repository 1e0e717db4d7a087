"""A window of tmux with a program in it: a whole terminal, whose screen can be read."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

GGUF_VL = (sys.executable, "-P", "-m", "gguf_vl")
ROOT = Path(__file__).parents[2]
IN_TIME_S = 20
_NUMBERS = count()


class Pane:
    """`command` in a window of `columns` × `rows`, on a tmux server of its own. What it leaves on the screen stays
    there when it has ended. `environment` is set in it; None takes a variable away.
    """

    def __init__(
        self,
        folder: Path,
        *command: str,
        size: tuple[int, int] = (100, 30),
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self._socket = folder / f"tmux{next(_NUMBERS)}"  # the server before may be ending still
        told = {"PYTHONPATH": str(ROOT), "COLUMNS": None, "LINES": None, **(environment or {})}
        unset = [word for name, value in told.items() if value is None for word in ("-u", name)]
        setting = [f"{name}={value}" for name, value in told.items() if value is not None]
        columns, rows = map(str, size)
        self.tmux(
            *("start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";"),
            *("new-session", "-d", "-x", columns, "-y", rows, "env", *unset, *setting, *command),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.tmux("kill-server", check=False)

    def tmux(self, *words: str, given: str | None = None, check: bool = True) -> str:
        """What a command of tmux says."""
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=check).stdout

    def told(self, name: str) -> str:
        """What tmux knows of the window by that name."""
        return self.tmux("display-message", "-p", f"#{{{name}}}").strip()

    @property
    def pid(self) -> int:
        """The command's process."""
        return int(self.told("pane_pid"))

    @property
    def text(self) -> str:
        """Everything on the screen."""
        return self.tmux("capture-pane", "-p")

    def until(self, *texts: str, seconds: float = IN_TIME_S) -> str:
        """The screen, once all of these texts are on it."""
        return self.until_true(lambda screen: all(text in screen for text in texts), seconds)

    def until_true(self, holds: Callable[[str], object], seconds: float = IN_TIME_S) -> str:
        """The screen, once it is so."""
        deadline = time.monotonic() + seconds
        while not holds(screen := self.text):
            assert time.monotonic() < deadline, f"this is on the screen instead:\n{screen}"
        return screen

    def press(self, *keys: str) -> None:
        """Press keys, by their names in tmux: Enter, C-q, Escape."""
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Press a key for each character."""
        self.tmux("send-keys", "-l", text)

    def paste(self, text: str) -> None:
        """Paste, or drop what terminals make this text of."""
        self.tmux("load-buffer", "-", given=text)
        self.tmux("paste-buffer", "-p", "-d")

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))


def shown(folder: Path, written: bytes, size: tuple[int, int] = (100, 30)) -> str:
    """What is on the screen of a terminal into which this was written."""
    file = folder / "written"
    file.write_bytes(written + b"\x18\x1b]2;all of it\x1b\\")
    with Pane(folder, "sh", "-c", f"stty raw -echo; cat {shlex.quote(str(file))}; exec cat", size=size) as pane:
        pane.until_true(lambda _: pane.told("pane_title") == "all of it")
        return pane.text
