"""The engine as the rest of the program sees it."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from gguf_vl.engine.process import Connection, WorkerProcess
from gguf_vl.engine.protocol import (
    AskStats,
    Cancel,
    Command,
    Count,
    Counted,
    Embed,
    Embedded,
    Failed,
    Generate,
    Load,
    Loading,
    LogLine,
    Prepare,
    Prepared,
    Published,
    Ready,
    Stats,
    Step,
)
from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, WorkerDied, from_plain, is_about_memory
from gguf_vl.types import (
    Embedding,
    EngineInfo,
    EngineSettings,
    EngineStats,
    Event,
    Finished,
    Message,
    Request,
    Timings,
    Usage,
)

logging.getLogger("gguf_vl").addHandler(logging.NullHandler())  # a worker's warnings are for whoever asks for them

OnProgress = Callable[[float], None]
"""Gets the loaded fraction of the model, 0 to 1."""
Connect = Callable[[], Awaitable[Connection]]
"""Starts a worker."""
Smaller = Callable[[EngineSettings, DoesNotFit], EngineSettings]
"""What to load instead of settings that turned out not to fit. Raises `DoesNotFit` when there is nothing."""


def _nothing_smaller(_settings: EngineSettings, error: DoesNotFit) -> EngineSettings:
    raise error


MOST_DEATHS = 3
"""Workers that may die in a row before none is started for a while."""
_NOTHING_YET = Finished("cancelled", Usage(0, 0, 0), Timings(0.0, 0.0, 0.0, None))


def _seen(task: asyncio.Task[Any]) -> None:
    """Look at a task's end, so that asyncio does not complain where nobody waits for it."""
    if not task.cancelled():
        task.exception()


class _Pending:
    """A request whose end has not come yet."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[Any] = asyncio.Queue()
        self.so_far = _NOTHING_YET
        self.sending: asyncio.Task[None] | None = None


class Engine:
    """A model in a worker process, for one asyncio loop.

    The worker starts with `start`, or with the first request. When it dies, the requests it had get `WorkerDied` at
    once, and the next request starts a fresh one. One that gets no further for `hung_s` seconds is ended like that.
    After `MOST_DEATHS` in a row, with no answer between, nothing is started for `rest_s` seconds.
    With `idle_s` one that had nothing to do for so long is ended too, and its memory given back. Several requests may
    be under way. When memory does not suffice to load, `smaller` says what to try; `settings` are those in force.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        on_progress: OnProgress | None = None,
        smaller: Smaller = _nothing_smaller,
        connect: Connect = WorkerProcess.start,
        hung_s: float = 300.0,
        idle_s: float | None = None,
        rest_s: float = 60.0,
    ) -> None:
        self.settings = settings
        self._on_progress = on_progress or (lambda _: None)
        self._smaller = smaller
        self._connect = connect
        self._hung_s = hung_s
        self._idle_s = idle_s
        self._rest_s = rest_s
        self._deaths = 0
        self._died_at = 0.0
        self._last_used = 0.0
        self._watcher: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._pending: dict[str, _Pending] = {}
        self._loading: asyncio.Task[EngineInfo] | None = None
        self._complaint = self._hung = ""
        self._closed = self._unloading = False

    async def start(self) -> EngineInfo:
        """Load the model, unless it is loaded. Raises what loading failed with, `WorkerDied` when the worker died."""
        if self._closed:
            raise EngineError("The engine is closed.", "Make a new one.")
        self._check_deaths()
        if self._loading is None or (self._loading.done() and self._connection is None):
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(_seen)
        return await asyncio.shield(self._loading)

    def _check_deaths(self) -> None:
        since = asyncio.get_running_loop().time() - self._died_at
        if self._deaths >= MOST_DEATHS and since < self._rest_s:
            raise EngineError(
                f"The engine's process ended {self._deaths} times in a row; none is started for {self._rest_s:g} s.",
                "Run `gguf-vl doctor`, or ask with --debug to see why.",
            )

    async def _load(self) -> EngineInfo:
        while True:
            if self._reader:
                await self._reader
            info: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()
            await self._open(info)
            try:
                loaded = await info
                if self._connection:
                    self._watcher = asyncio.create_task(self._watch(self._connection))
                return loaded
            except DoesNotFit as error:
                self.settings = self._smaller(self.settings, error)

    async def _open(self, info: asyncio.Future[EngineInfo]) -> None:
        connection = await self._connect()
        try:
            if self._closed:
                raise EngineError("The engine was closed.", "Make a new one.")
            await connection.send(Load(self.settings))
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._reader = asyncio.create_task(self._read(connection, info))

    async def unload(self) -> None:
        """End the worker, and give its memory back, unless it has work; the next request starts one again."""
        if self._connection and not self._pending:
            self._unloading = True
            await self._connection.close()

    async def _watch(self, connection: Connection) -> None:
        """End a worker that nobody needs any more, and one whose native code hangs."""
        loop = asyncio.get_running_loop()
        self._last_used = loop.time()
        while connection is self._connection:
            await asyncio.sleep(min(self._hung_s, self._idle_s or self._hung_s) / 10)
            if connection is not self._connection:
                return
            if not self._pending:
                if self._idle_s is not None and loop.time() - self._last_used >= self._idle_s:
                    await self.unload()
                continue
            self._last_used = loop.time()
            try:
                is_hung = (await asyncio.wait_for(self.stats(), self._hung_s)).stuck_s > self._hung_s
            except (GgufVlError, TimeoutError):
                is_hung = connection is self._connection
            if is_hung:
                self._hung = f"it got no further for {self._hung_s:g} s"
                await connection.close()

    @property
    def connection(self) -> Connection | None:
        """The worker that is running now, if one is."""
        return self._connection

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Answer a request: `Progress`, `Thinking` and `Text` events, and `Finished` as the last.

        Leaving the loop early cancels the request. Raises `DoesNotFit`, `UsageError` or `EngineError` for a request
        that cannot be answered, `WorkerDied` when the worker dies in the middle.
        """
        async with self._exchange(request.id, Generate(request)) as arrival:
            while not isinstance(event := await arrival(), Finished):
                yield event
            yield event

    async def embed(self, text: str) -> Embedding:
        """A text as a vector. Raises `UsageError` for an empty one, `DoesNotFit` for one longer than the context."""
        id = uuid.uuid4().hex
        async with self._exchange(id, Embed(id, text)) as arrival:
            embedded: Embedded = await arrival()
        values = array("f", embedded.values)
        length = math.hypot(*values) or 1.0
        return Embedding(tuple(value / length for value in values), embedded.n_tokens)

    async def prepare(self, *messages: Message) -> None:
        """Compute a conversation ahead of its question, as far as it is written: encode its pictures, read its text.

        The last message need not be finished: a picture alone is enough. It goes behind all requests; leaving, as by
        cancelling the task, stops it.
        """
        id = uuid.uuid4().hex
        async with self._exchange(id, Prepare(id, messages)) as arrival:
            await arrival()

    async def count(self, request: Request) -> Usage:
        """The tokens of a request's prompt, counted without running it; no completion tokens."""
        async with self._exchange(request.id, Count(request)) as arrival:
            counted: Usage = await arrival()
            return counted

    async def cancel(self, id: str) -> None:
        """End a request for its caller at once: its stream ends with `Finished("cancelled", …)`.

        The worker follows within a decode step or some nodes of a picture's encoding: measured on two cores with
        `pocket`, it took the next request 31 ms after a picture of 1,024 tokens was cancelled in mid-encoding, 82 ms
        after one of 4,096. Unknown ids are ignored.
        """
        pending = self._pending.pop(id, None)
        if pending:
            pending.arrivals.put_nowait(pending.so_far)
            await self._send(Cancel(id))

    async def stats(self) -> EngineStats:
        """The worker's counters."""
        id = uuid.uuid4().hex
        async with self._exchange(id, AskStats(id)) as arrival:
            stats: EngineStats = await arrival()
            return stats

    async def close(self) -> None:
        """End the worker. Requests under way get `EngineError`."""
        self._closed = True
        if self._connection:
            await self._connection.close()
        if self._reader:
            await self._reader

    @asynccontextmanager
    async def _exchange(self, id: str, command: Command) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """Send a command once the model is loaded; inside, await what the worker answers to it.

        The request can be cancelled from the start, also while the model loads. Leaving before its end cancels it.
        """
        pending = self._pending[id] = _Pending()
        pending.sending = asyncio.create_task(self._send_when_loaded(id, pending, command))

        async def arrival() -> Any:
            arrived = await pending.arrivals.get()
            if isinstance(arrived, Exception):
                raise arrived
            return arrived

        try:
            yield arrival
        finally:
            if self._pending.pop(id, None):
                await self._send(Cancel(id))

    async def _send_when_loaded(self, id: str, pending: _Pending, command: Command) -> None:
        try:
            await self.start()
            if id in self._pending:
                await self._send(command)
        except Exception as error:  # noqa: BLE001  it is the waiting caller's
            self._pending.pop(id, None)
            pending.arrivals.put_nowait(error)

    async def _send(self, command: Command) -> None:
        if self._connection:
            await self._connection.send(command)

    async def _read(self, connection: Connection, info: asyncio.Future[EngineInfo]) -> None:
        """Take the worker's reports until it is gone; then end what it leaves undone."""
        try:
            failure = await self._take_reports(connection, info)
        except Exception as error:  # noqa: BLE001  nobody who waits may wait for ever
            failure = error
        self._connection = None
        left = {}
        if info.done():  # else `start` tells them
            left, self._pending = self._pending, {}
        how = await connection.close()
        if self._watcher:
            self._watcher.cancel()
        if not (failure or self._closed or self._unloading):
            self._deaths += 1
            self._died_at = asyncio.get_running_loop().time()
        failure = failure or self._obituary(how, loading=not info.done())
        if not info.done():
            info.set_exception(failure)
            info.exception()  # seen: nobody may be waiting
        for request in left.values():
            request.arrivals.put_nowait(failure)

    async def _take_reports(self, connection: Connection, info: asyncio.Future[EngineInfo]) -> Exception | None:
        """Returns, when the worker is gone, the error that loading ended with, where it said one."""
        failure: GgufVlError | None = None
        self._complaint = self._hung = ""
        self._unloading = False
        while (report := await connection.receive()) is not None:
            match report:
                case Loading(fraction):
                    self._on_progress(fraction)
                case Ready(loaded):
                    info.set_result(loaded)
                case Failed("", error):
                    failure = from_plain(error)
                case LogLine(name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                    if level >= logging.ERROR:
                        self._complaint = text
                case Step(outcomes):
                    for outcome in outcomes:
                        self._deliver(outcome)
                case _:
                    self._deliver(report)
        return failure

    def _obituary(self, how: str, *, loading: bool) -> GgufVlError:
        if self._closed:
            return EngineError("The engine was closed.", "Make a new one.")
        when = "while loading the model" if loading else "while working"
        reason = next(filter(is_about_memory, (self._complaint, how)), how if "SIGKILL" in how else "")
        if loading and reason:  # the kernel, too, kills where memory ends
            what = f"Memory ran out {when}, most likely: {reason.rstrip('.')}."
            return DoesNotFit(what, "Close other programs, or take a smaller model.")
        what = f"The engine's process ended {when} ({self._hung or how})."
        return WorkerDied(what, "Ask again: a fresh one starts by itself.")

    def _deliver(self, report: Published | Prepared | Counted | Embedded | Stats | Failed) -> None:
        """Hand a report to the request it belongs to, and forget the request with its last."""
        pending = self._pending.get(report.id)
        if pending is None:
            return  # cancelled in the meantime
        match report:
            case Published(_, events, so_far):
                pending.so_far = so_far
                arrivals: tuple[Any, ...] = events
            case Stats(_, stats):
                arrivals = (stats,)
            case Prepared():
                arrivals = (None,)
            case Counted(_, usage):
                arrivals = (usage,)
            case Embedded():
                arrivals = (report,)
            case Failed(_, error):
                arrivals = (from_plain(error),)
        if not isinstance(report, Published) or (arrivals and isinstance(arrivals[-1], Finished)):
            del self._pending[report.id]
            self._deaths = 0
        for arrival in arrivals:
            pending.arrivals.put_nowait(arrival)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()
