"""The server seen from outside: alive, ready, its figures, an id and a line in the log for each request."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gguf_vl.errors import GgufVlError
from gguf_vl.hardware import nvidia
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.server.failures import Failure, code_of, failure_of
from gguf_vl.server.guard import Respond
from gguf_vl.server.metrics import Metrics, Seen
from gguf_vl.server.record import Record, begin
from gguf_vl.server.service import Service
from gguf_vl.server.starting import Start
from gguf_vl.types import EngineStats

OPERATION = "operation"
"""What the paths below are called among the dialects. Where all is well, they leave no line in the log."""
GPUS_EVERY_S = 5.0
"""Seconds for which what the GPUs said is taken to be so: asking starts a process."""
_STATS_S = 2.0
_ID = re.compile(r"[A-Za-z0-9._:=/+-]{1,128}")
_RESULTS = {429: "busy", 499: "left", 503: "unavailable", 504: "timeout"}

logger = logging.getLogger("gguf_vl.server")


class Watch:
    """Gives each request its id, counts it, and writes its line with `log`, None for no log.

    What nobody foresaw ends here too: the client gets a 500 in its dialect, the log where it happened, and not in what
    words, since those may be a person's.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        respond: Respond,
        dialect_of: Callable[[str], str],
        log: Callable[[str], None] | None,
        tell: Callable[[str], None],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._respond = respond
        self._dialect_of = dialect_of
        self._log = log
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        record = Record(given) if _ID.fullmatch(given) else Record()
        begin(record)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = record.id
            await send(message)
            record.is_whole = message["type"] == "http.response.body" and not message.get("more_body")

        self._metrics.begun()
        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001  the outermost edge
            self._unforeseen(error, record)
            if not record.status:
                failure = Failure(500, "Something went wrong here that should not.", code_of(500))
                await self._respond(scope["path"], failure)(scope, receive, noted)
        finally:
            self._end(scope, record)

    def _unforeseen(self, error: Exception, record: Record) -> None:
        record.error = GgufVlError(f"Unforeseen: {type(error).__name__}.", "")
        frames = traceback.extract_tb(error.__traceback__)[-5:]
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        self._tell(json.dumps({"id": record.id, "unforeseen": type(error).__name__, "at": where}))
        logger.debug("request %s", record.id, exc_info=error)

    def _end(self, scope: Scope, record: Record) -> None:
        seconds = time.perf_counter() - record.began
        dialect, result = self._dialect_of(scope["path"]), _result(record)
        self._metrics.ended(record, dialect, result, seconds)
        if self._log and (dialect, result) != (OPERATION, "ok"):
            self._log(json.dumps(_line(scope, record, dialect, result, seconds)))


def _result(record: Record) -> str:
    """A word for how it ended. An answer that failed in mid-stream has a status of 200."""
    if not record.is_whole and not record.error:
        return "left"
    status = failure_of(record.error).status if record.error else record.status
    if status in _RESULTS:
        return _RESULTS[status]
    return "ok" if status < 400 else "refused" if status < 500 else "failed"


def _line(scope: Scope, record: Record, dialect: str, result: str, seconds: float) -> dict[str, Any]:
    route = scope.get("route")  # its path has no ids in it, as of pictures
    figures = {
        "model": record.model,
        "first_token_s": record.first_token_s and round(record.first_token_s, 4),
        "prompt_tokens": record.prompt_tokens,
        "answer_tokens": record.answer_tokens,
    }
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "id": record.id,
        "client": (scope.get("client") or ("",))[0],
        "key": scope.get("state", {}).get("owner"),
        "method": scope["method"],
        "path": getattr(route, "path", scope["path"][:200]),
        "dialect": dialect,
        "status": record.status or 499,
        "result": result,
        "seconds": round(seconds, 4),
    } | {name: value for name, value in figures.items() if value}


class Observer:
    """Asks the engine, its plan and the GPUs how they are."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gpus: Sequence[nvidia.Load] = ()
        self._gpus_at = float("-inf")

    async def look(self) -> Seen:
        """How all is now. What does not answer in time is unknown."""
        serving = self._service.serving
        engine = serving.engine
        info = engine.info if engine else None
        planned = engine.planned.plan.allocations if isinstance(engine, PlannedEngine) and info else ()
        return Seen(
            serving.loaded,
            serving.deaths,
            await self._stats(),
            planned,
            info.used if info else None,
            await self._loads(),
        )

    async def _stats(self) -> EngineStats | None:
        try:
            return await asyncio.wait_for(self._service.serving.stats(), _STATS_S)
        except (GgufVlError, TimeoutError):
            return None

    async def _loads(self) -> Sequence[nvidia.Load]:
        if time.monotonic() - self._gpus_at >= GPUS_EVERY_S:
            self._gpus_at = time.monotonic()
            try:
                self._gpus = await asyncio.to_thread(nvidia.loads)
            except (OSError, ValueError):
                self._gpus = ()
        return self._gpus


def router(service: Service, metrics: Metrics, start: Start) -> APIRouter:
    """The endpoints for who looks after the server."""
    routes = APIRouter(tags=["Operation"])
    observer = Observer(service)

    @routes.get("/health", summary="Whether the server is alive")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get("/ready", summary="Whether the model can answer: 503 while it loads")
    async def ready() -> Response:
        found = start.readiness(service)
        status = 200 if found.state == "ready" else 503
        return JSONResponse({"status": found.state, "fraction": round(found.fraction, 3)}, status)

    @routes.get("/metrics", summary="Figures for Prometheus")
    async def figures() -> Response:
        return Response(metrics.page(await observer.look()), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
