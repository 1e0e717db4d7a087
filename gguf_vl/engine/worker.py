"""The worker process: `python -m gguf_vl.engine.worker`.

Commands come in on standard input, reports go out on standard output; whatever native code prints goes to standard
error. A reader thread takes the commands, so that a cancellation reaches native code in mid-work; the main thread
owns the model. The process ends when its input closes, also in the middle of native code: no orphan is left.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO

from gguf_vl.engine.protocol import (
    AskStats,
    Cancel,
    Command,
    Failed,
    Generate,
    Load,
    Loading,
    LogLine,
    Prepare,
    Prepared,
    Published,
    Ready,
    Report,
    Stats,
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
    """Work waiting for the main thread, in the order it came. `cancel` reaches waiting and running work alike."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Generate | Prepare, float]] = deque()
        self._running = ""
        self._runner: Runner | None = None

    def serve(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def runner(self) -> Runner | None:
        return self._runner

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def put(self, work: Generate | Prepare) -> None:
        with self._changed:
            self._waiting.append((work, time.perf_counter()))
            self._changed.notify()

    def next(self) -> tuple[Generate | Prepare, float]:
        """Wait for work; with it comes when it arrived. From now until `done` it is what `cancel` stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            work, arrived = self._waiting.popleft()
            self._running = _id(work)
            return work, arrived

    def done(self) -> None:
        with self._changed:
            self._running = ""
            if self._runner:
                self._runner.resume()

    def cancel(self, id: str) -> None:
        with self._changed:
            self._waiting = deque(waiting for waiting in self._waiting if _id(waiting[0]) != id)
            if id == self._running and self._runner:
                self._runner.abort()


def _id(work: Generate | Prepare) -> str:
    return work.request.id if isinstance(work, Generate) else work.id


def _read_commands(stream: BinaryIO, inbox: _Inbox, pipe: _Pipe) -> None:
    """The reader thread: until the pipe closes, and then the process ends, whatever else it is doing."""
    while (command := read_message(stream)) is not None:
        match command:
            case Cancel(id):
                inbox.cancel(id)
            case AskStats(id) if inbox.runner:
                pipe.send(Stats(id, inbox.runner.stats(running=inbox.busy)))
            case Generate() | Prepare():
                inbox.put(command)
    os._exit(0)


def _load(settings: Any, pipe: _Pipe) -> Runner | None:
    from gguf_vl.engine.runner import Runner

    reported = 0.0

    def report(fraction: float) -> None:
        nonlocal reported
        if (now := time.monotonic()) - reported >= _REPORT_EVERY_S or fraction >= 1:
            reported = now
            pipe.send(Loading(fraction))

    try:
        return Runner(settings, report)
    except GgufVlError as error:
        pipe.send(Failed("", to_plain(error)))
    except MemoryError:
        pipe.send(
            Failed("", to_plain(DoesNotFit("There is no memory left to load the model.", "Close other programs.")))
        )
    return None


def _work(work: Generate | Prepare, arrived: float, runner: Runner, pipe: _Pipe) -> None:
    from gguf_vl.native.context import Aborted

    try:
        if isinstance(work, Prepare):
            runner.prepare(work.picture)
            pipe.send(Prepared(work.id))
        else:
            id = work.request.id
            publish = lambda events, so_far: pipe.send(Published(id, tuple(events), so_far))  # noqa: E731
            runner.answer(work.request, publish, arrived=arrived)
    except Aborted:
        pass  # the program has already ended this request for its caller
    except GgufVlError as error:
        pipe.send(Failed(_id(work), to_plain(error)))
    except Exception as error:
        logging.getLogger("gguf_vl.engine").exception("a request failed")
        unforeseen = EngineError(
            f"The engine failed on this request: {type(error).__name__}: {error}", "Run it again with --debug."
        )
        pipe.send(Failed(_id(work), to_plain(unforeseen)))


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
    runner = _load(first.settings, pipe)
    if runner is None:
        os._exit(0)  # the reader thread sits in a read that an ordinary exit would stumble over
    inbox.serve(runner)
    pipe.send(Ready(runner.info))
    while True:
        work, arrived = inbox.next()
        _work(work, arrived, runner, pipe)
        inbox.done()


if __name__ == "__main__":
    main()
