"""What this program logs while its screens own the terminal: the latest in memory, and a file of it.

Only what the code says of itself is logged; questions, answers and pictures never are.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

from gguf_vl import paths

MOST = 2000
"""Records kept in memory."""
FILE_BYTES = 1 << 20
"""A log file's size, at which it becomes tui.log.1 and another one begins: two of them at most."""
_FORMAT = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


@dataclass(frozen=True, slots=True)
class Line:
    """One record. `number` counts all records from 0, `created` is in seconds since 1970, `level` as in `logging`."""

    number: int
    created: float
    level: int
    name: str
    text: str


class Kept(logging.Handler):
    """Keeps the latest records, and writes all of them to `path`. A file that cannot be written stops nobody: `failure`
    says why.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.DEBUG)
        self.path = path
        self.failure = ""
        self.n_records = 0
        self._lines: deque[Line] = deque(maxlen=MOST)
        self._file: RotatingFileHandler | None = None
        self._guard = threading.Lock()

    @property
    def lines(self) -> tuple[Line, ...]:
        """The latest records, the newest last."""
        with self._guard:
            return tuple(self._lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a slip where it was logged is no reason to end
            text = f"{record.msg} {record.args}"
            record = logging.makeLogRecord({**vars(record), "msg": text, "args": None})
        if record.exc_info:
            text = f"{text}\n{_FORMAT.formatException(record.exc_info)}"
        with self._guard:
            self._lines.append(Line(self.n_records, record.created, record.levelno, record.name, text))
            self.n_records += 1
        try:
            self._write(record)
        except (OSError, ValueError) as error:
            self.failure = f"{self.path} is not written: {getattr(error, 'strerror', None) or error}."

    def _write(self, record: logging.LogRecord) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _Raising(self.path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8")
            self._file.setFormatter(_FORMAT)
        self._file.emit(record)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
        super().close()


class _Raising(RotatingFileHandler):
    """One that does not print to a terminal that the screens own, but raises."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # it is called in an except block


class Told(logging.Handler):
    """Gives the errors of the terminal UI itself to `tell`: what fails behind the screens is seen."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the message, and where the rest is."""
        self._tell(f"{record.getMessage()} (F10 shows the log.)")


def tell_errors(tell: Callable[[str], None]) -> None:
    """Have errors told from now on."""
    logging.getLogger("gguf_vl.tui").addHandler(Told(tell))


def file() -> Path:
    """Where it is written."""
    return paths.cache_dir() / "log" / "tui.log"


def keep() -> Kept:
    """The handler that keeps this program's log, from the first call on."""
    logger = logging.getLogger("gguf_vl")
    for handler in logger.handlers:
        if isinstance(handler, Kept):
            return handler
    kept = Kept(file())
    logger.addHandler(kept)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    return kept


def stop() -> None:
    """Keep and tell no more; the file is closed."""
    for logger in (logging.getLogger("gguf_vl"), logging.getLogger("gguf_vl.tui")):
        for handler in [each for each in logger.handlers if isinstance(each, Kept | Told)]:
            logger.removeHandler(handler)
            handler.close()
