"""Progress of work on files: a bar per file where a person watches, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gguf_vl.cli.printing import harmless

if TYPE_CHECKING:
    from gguf_vl.cli.bars import Bars
    from gguf_vl.store.progress import Progress

LINE_EVERY_S = 10.0
"""Without a terminal: seconds between two lines about one thing."""


def progress(verb: str) -> Bars | Lines:
    """A context manager that shows the progress of `verb` ("Fetching") on standard error."""
    if not sys.stderr.isatty():
        return Lines(verb)
    from gguf_vl.cli.bars import Bars  # rich is slow to import

    return Bars(verb)


def verb_and_file(verb: str, label: str) -> tuple[str, str]:
    """In `FILE: verifying` the label has a verb of its own."""
    file, _, work = label.partition(": ")
    return work.capitalize() or verb, file


class Printed:
    """What is shown as lines on standard error."""

    def note(self, line: str) -> None:
        """Something a person should know."""
        print(harmless(line), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        pass


class Lines(Printed):
    """A line when a file begins and ends, and every few seconds between."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._totals: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Say that work on the file begins, and where."""
        with self._lock:
            self._totals[label], self._done[label] = total, done
            self._said[label] = time.monotonic()
            self._say(label, " from here on" if 0 < done < total else "")

    def at(self, label: str, done: int) -> None:
        """Say how far it is, when that has not been said for a while."""
        with self._lock:
            self._done[label] = done
            if time.monotonic() - self._said[label] >= LINE_EVERY_S:
                self._said[label] = time.monotonic()
                self._say(label)

    def end(self, label: str) -> None:
        """Say where it ended."""
        with self._lock:
            self._say(label)

    def _say(self, label: str, more: str = "") -> None:
        done, total = self._done[label], self._totals[label]
        share = 100 * done // total if total else 100
        verb, file = verb_and_file(self._verb, label)
        self.note(f"{verb} {file}: {share} % of {total / 1e6:,.1f} MB{more}")


if TYPE_CHECKING:
    _lines: type[Progress] = Lines
