"""How far a batch is: a bar with rate and time left where a person watches, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from gguf_vl.cli.printing import harmless

if TYPE_CHECKING:
    from rich.progress import Task

LINE_EVERY_S = 10.0
"""Without a terminal: seconds between two lines."""


class Shown(Protocol):
    """A context manager that shows how many pictures are done."""

    def status(self, what: str) -> None:
        """Say what is going on before the first is done."""

    def step(self) -> None:
        """One more is done."""

    def more(self, n: int) -> None:
        """There are so many more than was thought."""

    def note(self, line: str) -> None:
        """Something a person should know."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...


def batch_progress(total: int | None, done: int) -> Shown:
    """Of `total` pictures (None where more may come for ever) so many are done from before."""
    return _Bar(total, done) if sys.stderr.isatty() else _Lines(total, done)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Lines:
    def __init__(self, total: int | None, done: int) -> None:
        self._total, self._done, self._new = total, done, 0
        self._began = self._said = time.monotonic()

    def status(self, what: str) -> None: ...

    def step(self) -> None:
        now = time.monotonic()
        self._new += 1
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            done, rate = self._done + self._new, self._new / (now - self._began)
            rest = f" of {self._total}, {duration((self._total - done) / rate)} left" if self._total is not None else ""
            self.note(f"{done}{rest}, {rate:.2f} pictures/s")

    def more(self, n: int) -> None:
        if self._total is not None:
            self._total += n

    def note(self, line: str) -> None:
        print(harmless(line), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        pass


class _Bar:
    def __init__(self, total: int | None, done: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:.2f}/s" if task.speed else "")

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            expand=True,
            speed_estimate_period=60,
        )
        self._task = self._progress.add_task("Pictures", total=total, completed=done)

    def status(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def step(self) -> None:
        self._progress.update(self._task, advance=1, description="Pictures")

    def more(self, n: int) -> None:
        total = self._progress.tasks[0].total
        if total is not None:
            self._progress.update(self._task, total=total + n)

    def note(self, line: str) -> None:
        self._progress.console.print(harmless(line), markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()
