"""The engine for callers without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from gguf_vl.engine.client import Engine
from gguf_vl.types import Embedding, EngineInfo, EngineSettings, EngineStats, Event, Message, Progress, Request, Usage

T = TypeVar("T")


class BlockingEngine:
    """An `Engine` on a loop thread of its own: the same methods, waiting for their results.

    Raises what `Engine` raises.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine loop", daemon=True)
        self._thread.start()

    @property
    def settings(self) -> EngineSettings:
        """What the engine was made with."""
        return self._engine.settings

    def start(self) -> EngineInfo:
        """Load the model, unless it is loaded."""
        return self._wait(self._engine.start())

    def generate(self, request: Request) -> Iterator[Event]:
        """Answer a request. Leaving the loop early, or closing the iterator, cancels it."""
        events: SimpleQueue[Event | None] = SimpleQueue()
        answered = asyncio.run_coroutine_threadsafe(_hand_on(self._engine.generate(request), events.put), self._loop)
        try:
            while (event := events.get()) is not None:
                yield event
        except BaseException:  # it is left early
            self._wait(self._engine.cancel(request.id))
            raise
        finally:
            answered.result()

    def prepare(self, *messages: Message, on_progress: Callable[[Progress], None] | None = None) -> None:
        """Compute a conversation ahead of its question, as far as it is written. `on_progress` is called on another
        thread.
        """
        self._wait(self._engine.prepare(*messages, on_progress=on_progress))

    def count(self, request: Request) -> Usage:
        """The tokens of a request's prompt, counted without running it."""
        return self._wait(self._engine.count(request))

    def tokenize(self, text: str) -> tuple[tuple[int, bytes], ...]:
        """The tokens of a text, each with its bytes."""
        return self._wait(self._engine.tokenize(text))

    def embed(self, text: str) -> Embedding:
        """A text as a vector."""
        return self._wait(self._engine.embed(text))

    def cancel(self, id: str) -> None:
        """End a request for its caller at once. May be called from another thread than the one in `generate`."""
        self._wait(self._engine.cancel(id))

    def stats(self) -> EngineStats:
        """The worker's counters."""
        return self._wait(self._engine.stats())

    def close(self) -> None:
        """End the worker and the loop thread. Harmless when done twice."""
        if self._loop.is_closed():
            return
        self._wait(self._engine.close())
        self._wait(_others_end())  # such as a start that Ctrl-C came into
        self._wait(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


async def _others_end() -> None:
    """Wait for the tasks that a closed engine still lets come to their ends."""
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)


async def _hand_on(events: AsyncIterator[Event], put: Callable[[Event | None], None]) -> None:
    """Give each event to `put`, and None after the last, in one task that a cancelled request ends as well."""
    try:
        async for event in events:
            put(event)
    finally:
        put(None)
