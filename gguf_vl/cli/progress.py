"""Progress of work on files: a bar per file where a person watches, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gguf_vl.cli.printing import harmless

if TYPE_CHECKING:
    from rich.progress import TaskID

    from gguf_vl.store.progress import Progress

LINE_EVERY_S = 10.0
"""Without a terminal: seconds between two lines about one file."""


def progress(verb: str) -> Bars | Lines:
    """A context manager that shows the progress of `verb` ("Fetching") on standard error."""
    return Bars(verb) if sys.stderr.isatty() else Lines(verb)


class Bars:
    """One bar per file, with speed and time left."""

    def __init__(self, verb: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        one_line = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("{task.fields[verb]}", markup=False, table_column=one_line),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            TaskProgressColumn(table_column=one_line),
            DownloadColumn(table_column=one_line),
            TransferSpeedColumn(table_column=one_line),
            TimeRemainingColumn(table_column=one_line),
            console=Console(stderr=True),
            expand=True,
        )
        self._verb = verb
        self._tasks: dict[str, TaskID] = {}

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Show a bar for the file, or set its bar back; in `FILE: verifying` the label has a verb of its own."""
        if label in self._tasks:
            self._progress.reset(self._tasks[label], total=total, completed=done)
        else:
            file, _, work = label.partition(": ")
            verb = work.capitalize() or self._verb
            self._tasks[label] = self._progress.add_task(harmless(file), total=total, completed=done, verb=verb)

    def at(self, label: str, done: int) -> None:
        """Move the file's bar."""
        self._progress.update(self._tasks[label], completed=done)

    def end(self, label: str) -> None:
        """Let the file's bar stand as it is."""
        self._progress.stop_task(self._tasks[label])

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(harmless(line), markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()


class Lines:
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
            self._say(label, " from here on" if done else "")

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

    def note(self, line: str) -> None:
        """Say it."""
        print(harmless(line), file=sys.stderr, flush=True)

    def _say(self, label: str, more: str = "") -> None:
        done, total = self._done[label], self._totals[label]
        share = 100 * done // total if total else 100
        print(f"{self._verb} {harmless(label)}: {share} % of {total / 1e6:,.1f} MB{more}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        pass


if TYPE_CHECKING:
    _bars: type[Progress] = Bars
    _lines: type[Progress] = Lines
