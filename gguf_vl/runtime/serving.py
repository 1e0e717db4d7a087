"""One loaded model at a time, for whoever asks: loaded when it is wanted, swapped for another, unloaded when idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gguf_vl.engine.client import Engine
from gguf_vl.errors import EngineError

MakeEngine = Callable[[str], Engine]
"""An engine for a model's name. It has planned its load; nothing is loaded yet."""


class Serving:
    """Engines by model name, one of them at a time, so that two never share a memory that was planned for one.

    Who wants another model than the loaded one waits until nobody uses that; who comes later for the old one waits
    behind. So a model is swapped between requests, and nobody waits for ever.
    """

    def __init__(self, make: MakeEngine) -> None:
        self._make = make
        self._engine: Engine | None = None
        self._name: str | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def loaded(self) -> str:
        """The name of the model that is served now, empty for none."""
        return self._name or ""

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[Engine]:
        """The engine of that model, for as long as the block lasts. Raises what planning or loading it raises, and
        `EngineError` once nothing is served any more.
        """
        async with self._turn:  # in the order of coming, also for a swap
            self._check_open()
            engine = self._engine if name == self._name else None
            engine = engine or await self._swap(name)
            self._users += 1
            self._unused.clear()
        try:
            yield engine
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("No model is served any more.", "Start gguf-vl again.")

    async def _swap(self, name: str) -> Engine:
        made = await asyncio.to_thread(self._make, name)  # before the old one goes: the name may be wrong
        await self._unused.wait()
        await self._end()
        self._check_open()
        self._engine = made
        try:
            await made.start()
        except BaseException:  # a caller that left, too: loading would go on without it
            await self._end()
            raise
        self._name = name
        return made

    async def _end(self) -> None:
        self._name = None
        if self._engine:
            await self._engine.close()
            self._engine = None  # not before: who leaves in the middle must not let two be loaded

    async def close(self) -> None:
        """End whatever is loaded, loading or in use, and serve nobody from now on."""
        self._closed = True
        if self._engine:
            await self._engine.close()  # whoever holds the turn need not be waited for
        async with self._turn:
            await self._end()
