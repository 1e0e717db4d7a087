"""Several answers to one request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from gguf_vl.engine.client import Engine
from gguf_vl.types import Event, Request


async def answers(engine: Engine, request: Request, n: int) -> AsyncGenerator[tuple[int, Event], None]:
    """`n` answers at once, their events as they come, each with the number of its answer from 0.

    What they begin with is computed once. With a seed each has its own, counted up from that. Raises what
    `Engine.generate` raises; then, and when it is left early, all of them end.
    """
    arrivals: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()

    async def answer(number: int) -> None:
        async with aclosing(engine.generate(_numbered(request, number))) as events:
            async for event in events:
                arrivals.put_nowait((number, event))

    async def all_of_them() -> None:
        try:
            await asyncio.gather(*running)
        finally:
            arrivals.put_nowait(None)

    running = [asyncio.create_task(answer(number)) for number in range(n)]
    ended = asyncio.create_task(all_of_them())
    try:
        while (arrived := await arrivals.get()) is not None:
            yield arrived
        await ended
    finally:
        for each in (*running, ended):
            each.cancel()
        await asyncio.gather(*running, ended, return_exceptions=True)


def _numbered(request: Request, number: int) -> Request:
    seed = request.sampling.seed
    sampling = request.sampling if seed is None else replace(request.sampling, seed=seed + number)
    return replace(request, sampling=sampling, id=f"{request.id}.{number}")
