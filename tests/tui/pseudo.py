"""A pseudo-terminal with a program in it: every byte it writes, and the modes it leaves behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
IN_TIME_S = 20
_ANSWERS = {
    b"\x1b[>q": b"\x1bP>|XTerm(390)\x1b\\",
    b"\x1b[c": b"\x1b[?62;22c",
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
    b"\x1b[?2048$p": b"\x1b[?2048;2$y",
}
"""What a modern terminal says when asked, in the order of the questions: its name, its attributes, what it can do."""
_CONTROL = re.compile(
    rb"\x1b\[[0-9;?<>=$ ]*[a-zA-Z@`{|}~]|\x1b[PX^_\]].*?(?:\x07|\x1b\\)|\x1b[()][0-9A-B]|\x1b.", re.DOTALL
)
_MODE = re.compile(rb"\x1b\[\?([\d;]+)([hl])")
_KEYBOARD = re.compile(rb"\x1b\[([<>])\d*u")
_OF_OTHERS = "TMUX STY SSH_CONNECTION SSH_TTY TERM_PROGRAM NO_COLOR COLORTERM COLUMNS LINES".split()
"""What says something of the terminal that the tests run in."""
AS_FOUND = {7: True, 25: True}
"""The modes that are on in a terminal that nobody has changed: lines wrap, the cursor is shown."""


class Killed(Exception):
    """The program was killed, as `kill_after` says."""


class Pseudo:
    """`command` as the leader of a session in a terminal of its own. `answers` says whether it answers questions."""

    def __init__(
        self,
        *command: str,
        size: tuple[int, int] = (100, 30),
        environment: Mapping[str, str] | None = None,
        answers: bool = True,
    ) -> None:
        self._answers = answers
        self._master, self._slave = os.openpty()
        columns, rows = size
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings_before = self.settings
        told = dict(os.environ) | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        told = {name: value for name, value in told.items() if name not in _OF_OTHERS} | dict(environment or {})
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=told,
        )
        self.written = b""
        self._kill_at: int | None = None
        self._came = threading.Condition()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.hang_up()

    @property
    def settings(self) -> list[Any]:
        """What `stty` shows."""
        return termios.tcgetattr(self._slave)

    def hang_up(self) -> None:
        """Close the window: the kernel tells the program, and nothing can be read or written any more."""
        if not self._closing.is_set():
            self._closing.set()
            os.write(self._slave, b"\0")  # wakes the reader
            self._reader.join()
            os.close(self._master)
            os.close(self._slave)

    def _read(self) -> None:
        while not self._closing.is_set():
            piece = os.read(self._master, 65536)
            with self._came:
                before = len(self.written)
                self.written += piece
                if self._kill_at is not None and len(self.written) >= self._kill_at:
                    self.process.kill()
                self._came.notify_all()
            if self._answers:
                for question, answer in _ANSWERS.items():
                    at = self.written.find(question, max(0, before - len(question) + 1))
                    if at >= 0:
                        os.write(self._master, answer)

    def type(self, text: str) -> None:
        """Send what the keyboard would."""
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        """Everything that was ever written, without the control sequences."""
        return _CONTROL.sub(b"", self.written).decode(errors="replace")

    def until(self, *texts: str, seconds: float = IN_TIME_S) -> None:
        """Wait until all of these were written."""
        self._until(lambda: all(text in self.text for text in texts), seconds)

    def until_after(self, before: str, text: str, seconds: float = IN_TIME_S) -> None:
        """Wait until this was written behind the first of that."""
        self._until(lambda: text in self.text.partition(before)[2], seconds)

    def kill_after(self, n_bytes: int) -> None:
        """Kill the program, as nothing can prevent, when it has written so many bytes more."""
        with self._came:
            self._kill_at = len(self.written) + n_bytes

    def killed(self, seconds: float) -> bytes:
        """What it had written when it was killed; it is killed now if that takes longer."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.ended()
        return self.written

    def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        def holds_or_killed() -> bool:
            return holds() or (self._kill_at is not None and len(self.written) >= self._kill_at)

        with self._came:
            held = self._came.wait_for(holds_or_killed, seconds)
            if held and not holds():
                raise Killed
            assert held, f"this was written instead:\n{self.text[-3000:]}"

    def ended(self, seconds: float = IN_TIME_S) -> int:
        """The exit code, once the program has ended and everything it wrote has come."""
        code = self.process.wait(seconds)
        end = b"\x1b]end\x07"
        os.write(self._slave, end)
        self._kill_at = None
        self._until(lambda: end in self.written, seconds)
        self.written = self.written.replace(end, b"")
        return code

    def left_behind(self) -> set[str]:
        """What of the terminal is not as it was found: modes by their numbers, the keyboard, the settings."""
        modes: dict[int, bool] = {}
        for found in _MODE.finditer(self.written):
            for number in found[1].split(b";"):
                modes[int(number)] = found[2] == b"h"
        left = {f"mode {number}" for number, on in modes.items() if on != AS_FOUND.get(number, False)}
        pushed = sum(1 if found[1] == b">" else -1 for found in _KEYBOARD.finditer(self.written))
        if pushed > 0:
            left.add("keyboard")
        if self.settings != self.settings_before:
            left.add("settings")
        return left
