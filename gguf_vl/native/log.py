"""llama.cpp's log, sent to Python's `logging` instead of the person's terminal."""

from __future__ import annotations

import logging
import re
from collections import deque

from llama_cpp import llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd

logger = logging.getLogger("gguf_vl.llama")

_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5
"""ggml's level for a text that goes on with the line before."""


class _Lines:
    """Joins the fragments that llama.cpp logs into whole lines, and remembers the latest complaints."""

    def __init__(self) -> None:
        self._level = logging.DEBUG
        self._rest = ""
        self.complaints: deque[str] = deque(maxlen=8)

    def write(self, level: int, text: bytes, _user_data: object) -> None:
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.DEBUG)
        *whole, self._rest = (self._rest + text.decode("utf-8", errors="replace")).split("\n")
        for line in filter(None, map(str.strip, whole)):
            logger.log(self._level, "%s", line)
            if self._level >= logging.ERROR:
                self.complaints.append(line)


COMPUTE = re.compile(r"sched_reserve:\s+(\S+) compute buffer size = +([\d.]+) MiB")
OUTPUT = re.compile(r"llama_context:\s+(\S+) +output buffer size = +([\d.]+) MiB")
"""Lines of llama.cpp 0c1e57098 that name a buffer (a device's, or one in main memory) and its size."""

_lines = _Lines()
_callback = llama.llama_log_callback(_lines.write)  # ctypes needs it kept alive for as long as llama.cpp may log


def capture() -> None:
    """Route llama.cpp's, ggml's and mtmd's log lines to the logger `gguf_vl.llama`."""
    llama.llama_log_set(_callback, None)
    mtmd.mtmd_helper_log_set(_callback, None)


class Heard(logging.Handler):
    """Keeps the lines that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def taken(self) -> list[str]:
        """The lines since it was last asked."""
        lines, self._lines = self._lines, []
        return lines


def listen() -> Heard:
    """Capture every line, and keep it instead of passing it on."""
    heard = Heard()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(heard)
    capture()
    return heard


def last_complaint() -> str | None:
    """The first of llama.cpp's recent error lines, the one nearest the cause; forgets them all."""
    first = _lines.complaints[0] if _lines.complaints else None
    forget()
    return first


def forget() -> None:
    """Drop the error lines of a failure that was asked for, or that has been told."""
    _lines.complaints.clear()
