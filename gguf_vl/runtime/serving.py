"""One loaded model at a time, for whoever asks: loaded when it is wanted, swapped for another, unloaded when idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gguf_vl.engine.client import Engine

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
        self._name = ""
        self._users = 0
        self._turn = asyncio.Lock()
        self._left = asyncio.Condition()

    @property
    def loaded(self) -> str:
        """The name of the model that is served now, empty for none."""
        return self._name

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[Engine]:
        """The engine of that model, for as long as the block lasts. Raises what planning or loading it raises."""
        async with self._turn:  # in the order of coming, also for a swap
            if self._name != name or self._engine is None:
                await self._swap(name)
            engine = self._engine
            assert engine
            self._users += 1
        try:
            yield engine
        finally:
            async with self._left:
                self._users -= 1
                self._left.notify_all()

    async def _swap(self, name: str) -> None:
        made = await asyncio.to_thread(self._make, name)  # before the old one goes: the name may be wrong
        async with self._left:
            await self._left.wait_for(lambda: not self._users)
        if self._engine:
            await self._engine.close()
            self._engine, self._name = None, ""
        await made.start()
        self._engine, self._name = made, name

    async def close(self) -> None:
        """End whatever is loaded."""
        if self._engine:
            await self._engine.close()
            self._engine, self._name = None, ""
