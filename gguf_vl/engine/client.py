"""The engine as the rest of the program sees it."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from gguf_vl.engine.health import Deaths, Use, Worker
from gguf_vl.engine.pending import AllPending, Outcome, Pending
from gguf_vl.engine.process import Connection, WorkerProcess
from gguf_vl.engine.protocol import (
    AskStats,
    Cancel,
    Command,
    Count,
    Embed,
    Embedded,
    Failed,
    Generate,
    Load,
    Loading,
    LogLine,
    Prepare,
    Ready,
    Step,
    Tokenize,
)
from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, from_plain
from gguf_vl.types import (
    Embedding,
    EngineInfo,
    EngineSettings,
    EngineStats,
    Event,
    Finished,
    Message,
    Progress,
    Request,
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


def _was_closed() -> EngineError:
    return EngineError("The engine was closed.", "Make a new one.")


def _seen(task: asyncio.Task[Any]) -> None:
    """Look at a task's end, so that asyncio does not complain where nobody waits for it."""
    if not task.cancelled():
        task.exception()


class Engine:
    """A model in a worker process, for one asyncio loop.

    The worker starts with `start`, or with the first request. When it dies, the requests it had get `WorkerDied` at
    once, and the next request starts a fresh one. One that gets no further for `hung_s` seconds, or in loading reports
    nothing for so long, is ended like that. After three in a row, with no answer between, nothing is started for
    `rest_s` seconds. With `idle_s` one that had nothing to do for so long is ended too, and its memory given back.
    Several requests may be under way. When memory does not suffice to load, `smaller` says what to try; `settings` are
    those in force.
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
        self._use = Use(idle_s)
        self._deaths = Deaths(rest_s)
        self._worker: Worker | None = None  # none that is being ended
        self._reader: asyncio.Task[None] | None = None
        self._pending = AllPending()
        self._loading: asyncio.Task[EngineInfo] | None = None
        self._closed = False

    async def start(self) -> EngineInfo:
        """Load the model, unless it is loaded. Raises what loading failed with, `WorkerDied` when the worker died."""
        if self._closed:
            raise EngineError("The engine is closed.", "Make a new one.")
        if self._loading is None or (self._loading.done() and self._worker is None):
            self._deaths.check()
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(_seen)
        return await asyncio.shield(self._loading)

    async def _load(self) -> EngineInfo:
        while True:
            if self._reader:
                await self._reader  # the worker before has given its memory back
            worker = await self._open()
            try:
                return await worker.info
            except DoesNotFit as error:
                self.settings = self._smaller(self.settings, error)

    async def _open(self) -> Worker:
        connection = await self._connect()
        if self._closed:
            await connection.close()
            raise _was_closed()
        self._worker = worker = Worker(connection)
        self._reader = asyncio.create_task(self._read(worker))
        await connection.send(Load(self.settings))
        return worker

    @property
    def _loaded(self) -> Worker | None:
        return self._worker if self._worker and self._worker.is_loaded else None

    async def unload(self) -> None:
        """End the worker, and give its memory back, unless it has work; the next request starts one again."""
        if self._loaded and not self._pending:
            self._loaded.is_unloaded = True
            await self._end(self._loaded)

    async def _end(self, worker: Worker) -> None:
        """End a worker. Whoever comes from now on gets another one, once this one is gone."""
        if self._worker is worker:
            self._worker = None
        await worker.connection.close()

    async def _watch(self, worker: Worker) -> None:
        """End a worker that nobody needs any more, and one whose native code hangs."""
        while self._worker is worker:
            await self._use.until_a_look(self._hung_s / 10)
            if await self._hangs(worker):
                worker.hung = f"it got no further for {self._hung_s:g} s"
                await self._end(worker)
            elif self._use.is_over:
                await self.unload()

    async def _hangs(self, worker: Worker) -> bool:
        if not worker.is_loaded:
            return worker.silent_s > self._hung_s
        if not self._pending:
            return False
        try:
            return (await asyncio.wait_for(self.stats(), self._hung_s)).stuck_s > self._hung_s
        except (GgufVlError, TimeoutError):
            return worker is self._worker

    @property
    def idle_s(self) -> float | None:
        """Seconds without a request after which the model is unloaded, None for never. May be set at any time; once
        the model is unloaded, what the engine was made with is in force again.
        """
        return self._use.idle_s

    @idle_s.setter
    def idle_s(self, seconds: float | None) -> None:
        self._use.idle_s = seconds

    @property
    def idle_left_s(self) -> float | None:
        """Seconds until the model is unloaded, if nobody asks from now on; None for never."""
        return self._use.idle_s if self._pending else self._use.left_s

    @property
    def connection(self) -> Connection | None:
        """The worker that is running now, if one is."""
        return self._worker.connection if self._worker else None

    @property
    def info(self) -> EngineInfo | None:
        """What the worker says of the model it has loaded; None while none is."""
        return self._loaded.info.result() if self._loaded else None

    @property
    def deaths(self) -> int:
        """How many workers ended that were not told to."""
        return self._deaths.total

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Answer a request: `Progress`, `Thinking` and `Text` events, and `Finished` as the last.

        Where the last message is a text of the assistant's, the answer goes on behind it, and the events carry what is
        new. Leaving the loop early cancels the request.

        Raises `DoesNotFit`, `UsageError` or `EngineError` for a request that cannot be answered, `WorkerDied` when the
        worker dies in the middle; `UsageError`, too, while another one with its id is under way.
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

    async def prepare(self, *messages: Message, on_progress: Callable[[Progress], None] | None = None) -> None:
        """Compute a conversation ahead of its question, as far as it is written: encode its pictures, read its text.

        The last message need not be finished: a picture alone is enough. `on_progress` is told how many image tokens
        are encoded, picture by picture from none to all of them, and nothing where there are no pictures. It goes
        behind all requests; leaving, as by cancelling the task, stops it.
        """
        id = uuid.uuid4().hex
        async with self._exchange(id, Prepare(id, messages)) as arrival:
            while (progress := await arrival()) is not None:
                if on_progress:
                    on_progress(progress)

    async def count(self, request: Request) -> Usage:
        """The tokens of a request's prompt, counted without running it; no completion tokens."""
        id = uuid.uuid4().hex  # the request itself may be running
        async with self._exchange(id, Count(replace(request, id=id))) as arrival:
            counted: Usage = await arrival()
            return counted

    async def tokenize(self, text: str) -> tuple[tuple[int, bytes], ...]:
        """The tokens of a text, each with its bytes. What spells a control token is text."""
        id = uuid.uuid4().hex
        async with self._exchange(id, Tokenize(id, text)) as arrival:
            tokens: tuple[tuple[int, bytes], ...] = await arrival()
            return tokens

    async def cancel(self, id: str) -> None:
        """End a request for its caller at once: its stream ends with `Finished("cancelled", …)`.

        The worker follows within a decode step or some nodes of a picture's encoding: measured on two cores with
        `pocket`, it took the next request 31 ms after a picture of 1,024 tokens was cancelled in mid-encoding, 82 ms
        after one of 4,096. Unknown ids are ignored.
        """
        if pending := self._pending.pop(id):
            pending.put(pending.so_far)
            if pending.worker:
                await pending.worker.connection.send(Cancel(id))

    async def stats(self) -> EngineStats:
        """The worker's counters, zeros while no model is loaded. Asking for them is no use of the model."""
        worker = self._loaded
        if worker is None:
            return EngineStats(0, 0, 0, 0, 0, 0)
        id = uuid.uuid4().hex
        with self._pending.awaiting(id) as pending:
            pending.worker = worker
            await worker.connection.send(AskStats(id))
            stats: EngineStats = await pending.arrival()
            return stats

    async def close(self) -> None:
        """End the worker. Requests under way get `EngineError`."""
        self._closed = True
        if self._worker:
            await self._end(self._worker)
        if self._reader:
            await asyncio.shield(self._reader)

    @asynccontextmanager
    async def _exchange(self, id: str, command: Command) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """Send a command once the model is loaded; inside, await what the worker answers to it.

        The request can be cancelled from the start, also while the model loads. Leaving before its end cancels it.
        """
        self._use.now()
        with self._pending.awaiting(id) as pending:
            pending.sending = asyncio.create_task(self._send_when_loaded(id, pending, command))
            try:
                yield pending.arrival
            finally:
                self._use.now()
                pending.sending.cancel()
                if self._pending.has(id, pending):
                    await self.cancel(id)

    async def _send_when_loaded(self, id: str, pending: Pending, command: Command) -> None:
        try:
            worker = None
            while worker is None:  # it may be gone again as soon as it has started
                await self.start()
                worker = self._loaded
            if self._pending.has(id, pending):
                pending.worker = worker
                await worker.connection.send(command)
        except Exception as error:  # noqa: BLE001  it is the waiting caller's
            if self._pending.has(id, pending):
                self._pending.pop(id)
            pending.put(error)

    async def _read(self, worker: Worker) -> None:
        """Take the worker's reports until it is gone; then end what it leaves undone."""
        watcher = asyncio.create_task(self._watch(worker))
        try:
            failure = await self._take_reports(worker)
        except Exception as error:  # noqa: BLE001  nobody who waits may wait for ever
            failure = error
        watcher.cancel()
        left = self._pending.pop_of(worker)
        self._worker = None
        self._use.begin_anew()
        how = await worker.connection.close()
        if not (failure or self._closed or worker.is_unloaded):
            self._deaths.add()
        failure = failure or (_was_closed() if self._closed else worker.obituary(how))
        if not worker.is_loaded:
            worker.info.set_exception(failure)
            worker.info.exception()  # seen: nobody may be waiting
        for pending in left:
            pending.put(failure)

    async def _take_reports(self, worker: Worker) -> Exception | None:
        """Returns, when the worker is gone, the error that loading ended with, where it said one."""
        failure: GgufVlError | None = None
        worker.heard()
        while (report := await worker.connection.receive()) is not None:
            worker.heard()
            match report:
                case Loading(fraction):
                    self._on_progress(fraction)
                case Ready(loaded):
                    self._use.now()
                    worker.info.set_result(loaded)
                case Failed("", error):
                    failure = from_plain(error)
                case LogLine(name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                    if level >= logging.ERROR:
                        worker.complaint = text
                case Step(outcomes):
                    for outcome in outcomes:
                        self._deliver(outcome)
                case _:
                    self._deliver(report)
        return failure

    def _deliver(self, outcome: Outcome) -> None:
        if self._pending.deliver(outcome):
            self._deaths.forget()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()
