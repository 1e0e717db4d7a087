"""The worker process: `python -m gguf_vl.engine.worker`.

Commands come in on standard input, reports go out on standard output; whatever native code prints goes to standard
error. A reader thread takes the commands, so that a cancellation reaches native code in mid-work; the main thread
owns the model and runs the loop. The process ends when its input closes, also in the middle of native code: no orphan
is left.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from gguf_vl.engine.protocol import (
    AskStats,
    Cancel,
    Command,
    Count,
    Embed,
    Failed,
    Generate,
    Load,
    Loading,
    LogLine,
    Prepare,
    Ready,
    Report,
    Stats,
    Step,
    Tokenize,
    dumps,
    read_message,
)
from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, to_plain

if TYPE_CHECKING:
    from gguf_vl.engine.runner import Runner

_REPORT_EVERY_S = 0.05
"""Seconds between two reports of loading progress: llama.cpp tells thousands."""


class _Pipe:
    """Reports to the program that started us. Any thread may send."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, report: Report) -> None:
        frame = dumps(report)
        try:
            with self._lock:
                self._stream.write(frame)
                self._stream.flush()
        except (BrokenPipeError, ValueError):
            os._exit(0)


class _LogToPipe(logging.Handler):
    def __init__(self, pipe: _Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self._pipe.send(LogLine(record.name, record.levelno, record.getMessage()))


class _Inbox:
    """Commands waiting for the main thread, in the order they came. A cancellation also reaches native work at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Command, float]] = deque()
        self._woken = False
        self.runner: Runner | None = None

    def put(self, command: Command) -> None:
        """Leave a command for the main thread."""
        with self._changed:
            self._waiting.append((command, time.perf_counter()))
            self._changed.notify()

    def wake(self) -> None:
        """Let the main thread look again."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def take(self, *, wait: bool, at_most_s: float | None = None) -> list[tuple[Command, float]]:
        """All commands, each with when it came. With `wait`, not before there is one, `wake` was called, or so many
        seconds have passed.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._waiting or self._woken, at_most_s)
            self._woken = False
            taken = list(self._waiting)
            self._waiting.clear()
            return taken


def _read_commands(stream: BinaryIO, inbox: _Inbox, pipe: _Pipe) -> None:
    """The reader thread: until the pipe closes, and then the process ends, whatever else it is doing."""
    while (command := read_message(stream)) is not None:
        if isinstance(command, AskStats) and inbox.runner:
            pipe.send(Stats(command.id, inbox.runner.stats()))
            continue
        if isinstance(command, Cancel) and inbox.runner:
            inbox.runner.interrupt(command.id)
        inbox.put(command)
    os._exit(0)


def _load(settings: Any, pipe: _Pipe, wake: Callable[[], None]) -> Runner | None:
    from gguf_vl.engine.runner import Runner

    reported = 0.0

    def report(fraction: float) -> None:
        nonlocal reported
        if (now := time.monotonic()) - reported >= _REPORT_EVERY_S or fraction >= 1:
            reported = now
            pipe.send(Loading(fraction))

    try:
        return Runner(settings, report, wake)
    except GgufVlError as error:
        pipe.send(Failed("", to_plain(error)))
    except MemoryError:
        pipe.send(
            Failed("", to_plain(DoesNotFit("There is no memory left to load the model.", "Close other programs.")))
        )
    return None


def _serve(runner: Runner, inbox: _Inbox, pipe: _Pipe, spill_after_s: float) -> NoReturn:
    """The main thread: commands in, a step, its outcomes out."""
    quiet_since = time.monotonic()
    while True:
        is_idle = runner.is_idle
        spill = runner.spill if is_idle and runner.spill and runner.spill.has_work else None
        spill_in_s = max(0.0, quiet_since + spill_after_s - time.monotonic())
        taken = inbox.take(wait=not runner.has_work, at_most_s=spill_in_s if spill else None)
        with runner.working():
            if taken or not is_idle:
                quiet_since = time.monotonic()
            elif spill and time.monotonic() >= quiet_since + spill_after_s:
                spill.step()
            for command, arrived in taken:
                try:
                    _obey(command, arrived, runner)
                except Exception as error:  # noqa: BLE001  told to whoever asked, and logged
                    pipe.send(Step((Failed(_id(command), to_plain(_unforeseen(error))),)))
            try:
                outcomes = runner.step()
            except Exception as error:  # noqa: BLE001  told to whoever asked, and logged
                outcomes = runner.fail(_unforeseen(error))
        if outcomes:
            pipe.send(Step(tuple(outcomes)))


def _obey(command: Command, arrived: float, runner: Runner) -> None:
    match command:
        case Generate(request):
            runner.submit(request, arrived=arrived)
        case Prepare(id, messages):
            runner.prepare(id, messages)
        case Count(request):
            runner.count(request)
        case Embed(id, text):
            runner.embed(id, text, arrived=arrived)
        case Tokenize(id, text):
            runner.tokenize(id, text)
        case Cancel(id):
            runner.cancel(id)


def _id(command: Command) -> str:
    return command.request.id if isinstance(command, Generate | Count) else getattr(command, "id", "")


def _unforeseen(error: Exception) -> EngineError:
    logging.getLogger("gguf_vl.engine").exception("the engine failed")
    what = error.what if isinstance(error, GgufVlError) else f"{type(error).__name__}: {error}"
    return EngineError(f"The engine failed: {what}", "Run it again with --debug.")


def _take_over_stdout() -> BinaryIO:
    """Standard output for our frames alone: everything else that prints there goes to standard error."""
    sys.stdout.flush()
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


def main() -> None:
    """Serve one program until it closes the pipe."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    pipe = _Pipe(_take_over_stdout())
    logger = logging.getLogger("gguf_vl")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_LogToPipe(pipe))
    logger.propagate = False
    inbox = _Inbox()
    first: Command | None = read_message(sys.stdin.buffer)
    if not isinstance(first, Load):
        return
    reader = threading.Thread(target=_read_commands, args=(sys.stdin.buffer, inbox, pipe), daemon=True)
    reader.start()
    runner = _load(first.settings, pipe, inbox.wake)
    if runner is None:
        os._exit(0)  # the reader thread sits in a read that an ordinary exit would stumble over
    inbox.runner = runner
    pipe.send(Ready(runner.info))
    _serve(runner, inbox, pipe, first.settings.spill_after_s)


if __name__ == "__main__":
    main()
