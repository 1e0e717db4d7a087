"""A program that starts an engine, prints its worker's process id, and waits to be killed at the given moment."""

from __future__ import annotations

import asyncio
import sys

from gguf_vl.engine.client import Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.types import Message, Progress, Request
from tests.engine.test_worker import settings
from tests.scenes import the_picture


async def main(moment: str) -> None:
    engine = Engine(settings())
    starting = asyncio.create_task(engine.start())
    while engine.connection is None:
        await asyncio.sleep(0)
    assert isinstance(engine.connection, WorkerProcess)
    if moment != "loading":
        await starting
    if moment == "encoding":
        events = engine.generate(Request((Message("user", (the_picture("red circle", size=1024), "?")),)))
        assert isinstance(await anext(events), Progress)
        assert (await engine.stats()).running
    print(engine.connection.pid, flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
