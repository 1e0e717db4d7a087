"""Who of a batch may be under way beside whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TypeVar

from gguf_vl.errors import WorkerDied

T = TypeVar("T")

VIDEOS = 2
"""Videos that are under way at once, whatever else is: one may fill the context, and its frames take 150 MiB."""


class Turns:
    """Those of one batch. Belongs to the event loop in which it is first used."""

    def __init__(self) -> None:
        self._gate = _Gate()
        self._videos = asyncio.Semaphore(VIDEOS)

    async def take(self, attempt: Callable[[], Awaitable[T]], *, is_video: bool) -> T:
        """What comes of an attempt. One under which the worker died is made once more, with nothing beside it, so that
        none pays for another. Raises what it raises, `WorkerDied` where the worker died again.
        """
        async with self._videos if is_video else nullcontext():
            try:
                async with self._gate.together():
                    return await attempt()
            except WorkerDied:
                pass
            async with self._gate.alone():
                return await attempt()


class _Gate:
    """Those who may be inside together, and those who must be alone, who go first."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = 0  # inside or waiting
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            await self._leave()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._alone += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._inside)
                self._inside += 1
            try:
                yield
            finally:
                await self._leave()
        finally:
            self._alone -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _leave(self) -> None:
        self._inside -= 1
        async with self._changed:
            self._changed.notify_all()
