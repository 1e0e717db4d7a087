"""One loaded model at a time, for whoever asks: loaded when it is wanted, swapped for another, unloaded when idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gguf_vl.engine.client import Engine
from gguf_vl.errors import EngineError
from gguf_vl.types import EngineStats

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
        self._deaths = 0  # of engines that are gone
        self._unused = asyncio.Event()
        self._unused.set()
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def loaded(self) -> str:
        """The name of the model that is in memory now, empty for none."""
        return (self._name or "") if self._engine and self._engine.connection else ""

    @property
    def engine(self) -> Engine | None:
        """The engine of the model that is served now, or is being loaded."""
        return self._engine

    @property
    def deaths(self) -> int:
        """How many workers ended that were not told to, of all models."""
        return self._deaths + (self._engine.deaths if self._engine else 0)

    @property
    def n_ctx(self) -> int | None:
        """The context of the model that is served now, in tokens; None for no model."""
        return self._engine.settings.n_ctx if self._engine else None

    def keep(self, name: str, idle_s: float | None) -> None:
        """Have that model, if it is the one in memory, unloaded after so many seconds without a request, with None
        never. Once it is unloaded, the time it was made with is in force again.
        """
        if self._engine and self.loaded == name:
            self._engine.idle_s = idle_s

    async def unload(self) -> None:
        """Give the memory of the model back, unless it is in use; the next request loads it again."""
        if self._engine and not self._users:
            await self._engine.unload()

    async def stats(self) -> EngineStats:
        """The counters of the model that is served now, zeros for none."""
        return await self._engine.stats() if self._engine else EngineStats(0, 0, 0, 0, 0, 0)

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
        await self._unused.wait()
        await self._end()
        made = await asyncio.to_thread(self._make, name)  # not before: it plans with the memory that is free
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
            self._deaths += self._engine.deaths
            self._engine = None  # not before: who leaves in the middle must not let two be loaded

    async def close(self) -> None:
        """End whatever is loaded, loading or in use, and serve nobody from now on."""
        self._closed = True
        if self._engine:
            await self._engine.close()  # whoever holds the turn need not be waited for
        async with self._turn:
            await self._end()
