"""An event loop on a thread of its own, for callers without one, or in the middle of another."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from gguf_vl.errors import EngineError

T = TypeVar("T")


class Work(Generic[T]):
    """A coroutine that runs on a portal's loop. `future` has its end, whether it was cancelled or not."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        self.future: Future[T] = Future()
        self._loop = loop
        loop.call_soon_threadsafe(self._begin, coroutine)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.future.set_exception(asyncio.CancelledError())
        elif error := task.exception():
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())

    def cancel(self) -> None:
        """Tell it to leave off. Its end comes later."""
        if not self.future.done():
            self._loop.call_soon_threadsafe(lambda: self._task.cancel())


class Portal:
    """Runs coroutines for any number of threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_closed = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="gguf_vl", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Work[T]:
        """Have it run. Raises `EngineError` once the portal is closed, and in a process that was forked meanwhile."""
        is_ours = os.getpid() == self._pid  # no thread follows into a fork: it would wait for ever
        with self._lock:
            if is_ours and not self._is_closed:
                return Work(self._loop, coroutine)
        coroutine.close()
        if is_ours:
            raise EngineError("The model is closed.", "Load it again.")
        raise EngineError("The model was loaded by the process that this one was forked from.", "Load one here.")

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result. Who leaves in the middle, as by Ctrl-C, leaves once it has ended too."""
        work = self.begin(coroutine)
        try:
            return work.future.result()
        finally:
            end_all([work])
            del work  # its error would hold this frame, and so the caller's, until a garbage collection

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine, and end the thread once all others have come to their ends. Harmless when done twice.

        On the loop's own thread, where a garbage collection may have led, nothing is waited for.
        """
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._finish(last())))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    async def _finish(self, last: Coroutine[Any, Any, None]) -> None:
        try:
            await last
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
            await self._loop.shutdown_asyncgens()
            await self._loop.shutdown_default_executor()
        finally:
            self._loop.stop()


def end_all(works: list[Work[Any]]) -> None:
    """Cancel what is still running, and wait for it to have ended."""
    for work in works:
        work.cancel()
    wait([work.future for work in works])
