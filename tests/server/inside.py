"""The application in this process, behind a scripted engine: for edges that a real model seldom reaches."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import LoadScript, Script, ScriptedWorker, scripted, text
from gguf_vl.runtime.models import named
from gguf_vl.runtime.serving import Serving
from gguf_vl.server.app import make_app
from gguf_vl.server.ending import Server
from gguf_vl.server.fetching import Fetching
from gguf_vl.server.gate import Gate
from gguf_vl.server.guard import Rules
from gguf_vl.server.keys import Keys
from gguf_vl.server.pictures import Pictures
from gguf_vl.server.pulling import Pulls
from gguf_vl.server.service import Service
from gguf_vl.server.starting import Start
from gguf_vl.server.uploads import Uploads
from gguf_vl.types import EngineSettings, PictureLimits
from tests.server.conftest import PATIENCE_S

LIMITS = PictureLimits(16, 1024)
OPEN = Rules(Keys())


class ScriptedModels:
    """One model, whose engines play these scripts. `workers` are those that were started."""

    n_ctx = 8192

    def __init__(self, *scripts: Script, loading: Sequence[LoadScript] = ()) -> None:
        self.default = named("pocket")
        self.workers: list[ScriptedWorker] = []
        self.progress = lambda _name, _fraction: None
        self._connect = scripted(*scripts, loading=loading)

    def find(self, _name: str) -> Any:
        return self.default

    def installed(self) -> list[Any]:
        return [self.default]

    async def connect(self) -> ScriptedWorker:
        self.workers.append(await self._connect())
        return self.workers[-1]

    def make(self, name: str) -> Engine:
        settings = EngineSettings(Path("pocket.gguf"), Path("mmproj.gguf"), LIMITS)
        return Engine(settings, connect=self.connect, on_progress=lambda fraction: self.progress(name, fraction))

    def sent(self, kind: type) -> list[Any]:
        """The commands of a kind that any worker was sent."""
        return [command for worker in self.workers for command in worker.commands if isinstance(command, kind)]


@dataclass
class Inside:
    """The application and what it was made of; `client` talks to it, `log` and `told` are what it wrote."""

    app: FastAPI
    service: Service
    models: ScriptedModels
    start: Start
    log: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    client: httpx2.AsyncClient = field(init=False)
    server: Server = field(init=False)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something has happened in this process."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


def assemble(
    *scripts: Script,
    loading: Sequence[LoadScript] = (),
    rules: Rules = OPEN,
    settings: Settings | None = None,
    fetching: Fetching | None = None,
    limit_s: float = 60,
    most: int = 100,
) -> Inside:
    """The application, not listening."""
    models = ScriptedModels(*scripts, loading=loading)
    pictures = Pictures(Uploads(1 << 20), fetching or Fetching(), "auto", 1 << 20, 1 << 20, 4)
    serving = Serving(models.make)
    service = Service(settings or Settings(), models, serving, pictures, limit_s, Gate(most))  # type: ignore[arg-type]
    log: list[str] = []
    told: list[str] = []
    start = Start(told.append)
    models.progress = start.progress
    app = make_app(service, rules, start, Pulls(allowed=False), tell=told.append, log=log.append)
    return Inside(app, service, models, start, log, told)


@asynccontextmanager
async def inside(*scripts: Script, **how: Any) -> AsyncIterator[Inside]:
    """Without a socket between: whole requests and whole responses."""
    found = assemble(*scripts, **how)
    transport = httpx2.ASGITransport(found.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as found.client:
        yield found
    await found.service.serving.close()


@asynccontextmanager
async def listening(*scripts: Script, drain_s: float = 60, **how: Any) -> AsyncIterator[Inside]:
    """Behind a real port, begun and ended as `serve` does it; the first answer is the one that warms up."""
    found = assemble(text("warm"), *scripts, **how)
    begun = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(found.app, ws="none", log_config=None, access_log=False)
        found.server = Server(config, found.service, begun.set, drain_s)
        running = asyncio.create_task(found.server.serve([listener]))
        await begun.wait()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as found.client:
            yield found
            found.server.should_exit = True
        await running
