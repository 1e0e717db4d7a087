"""Progress as a person watches it on a terminal: of work on files a row per file, of a batch one of its pictures."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from gguf_vl.cli.printing import harmless
from gguf_vl.cli.progress import verb_and_file

if TYPE_CHECKING:
    from gguf_vl.store import progress


class _FileName:
    """A name that loses its middle where there is no room for it.

    Its end says the quantisation, and its beginning whether it is a projector.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name, room = self._name, options.max_width
        if len(name) > room:
            name = f"{name[: room // 3]}…{name[len(name) + 1 + room // 3 - room :]}"
        yield Text(name, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, len(self._name))


class _FileColumn(ProgressColumn):
    def render(self, task: Task) -> _FileName:
        return _FileName(task.description)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "")


class _Drawn:
    """What is drawn while it is entered, and lines above it."""

    _progress: Progress

    def note(self, line: str) -> None:
        """Something a person should know."""
        self._progress.console.print(harmless(line), markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()


class Bars(_Drawn):
    """One bar per file, with speed and time left."""

    def __init__(self, verb: str, console: Console | None = None) -> None:
        one_line = Column(no_wrap=True)
        self._progress = Progress(
            TextColumn("{task.fields[verb]}", markup=False, table_column=one_line),
            _FileColumn(table_column=Column(ratio=3)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            TaskProgressColumn(table_column=one_line),
            DownloadColumn(table_column=one_line),
            TransferSpeedColumn(table_column=one_line),
            TimeRemainingColumn(table_column=one_line),
            console=console or Console(stderr=True),
            expand=True,
        )
        self._verb = verb
        self._tasks: dict[str, TaskID] = {}

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Show a bar for the file, or set back the one that did not reach its end."""
        if label in self._tasks:
            self._progress.reset(self._tasks[label], total=total, completed=done)
        else:
            verb, file = verb_and_file(self._verb, label)
            self._tasks[label] = self._progress.add_task(harmless(file), total=total, completed=done, verb=verb)

    def at(self, label: str, done: int) -> None:
        """Move the file's bar."""
        self._progress.update(self._tasks[label], completed=done)

    def end(self, label: str) -> None:
        """Let the file's bar stand as it is."""
        task = self._tasks[label]
        self._progress.stop_task(task)
        if self._progress.tasks[task].finished:
            del self._tasks[label]  # another model's file may have the same name


class PictureBar(_Drawn):
    """One bar for the pictures of a batch, with rate and time left; `total` is None where more may come for ever."""

    def __init__(self, total: int | None, done: int, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            expand=True,
            speed_estimate_period=60,
        )
        self._task = self._progress.add_task("Pictures", total=total, completed=done)

    def status(self, what: str) -> None:
        """Say what is going on before the first is done."""
        self._progress.update(self._task, description=what)

    def step(self) -> None:
        """One more is done."""
        self._progress.update(self._task, advance=1, description="Pictures")

    def more(self, n: int) -> None:
        """There are so many more than was thought."""
        total = self._progress.tasks[0].total
        if total is not None:
            self._progress.update(self._task, total=total + n)


if TYPE_CHECKING:
    _bars: type[progress.Progress] = Bars
