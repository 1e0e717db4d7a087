"""What Ollama's clients ask about models: `/api/tags`, `/api/ps`, `/api/show`, `/api/pull`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from gguf_vl import __version__
from gguf_vl.engine.client import Engine
from gguf_vl.errors import GgufVlError
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed
from gguf_vl.server.answers import unless_gone
from gguf_vl.server.dialects.ollama import LONGEST_S, JsonRoute, error_body, line, stamp
from gguf_vl.server.dialects.openai import Body, Json
from gguf_vl.server.failures import failure_of
from gguf_vl.server.pulling import Pulls, Told
from gguf_vl.server.service import Service
from gguf_vl.types import MAIN, Allocation

SPEAKS = "0.13.0"
"""The version of Ollama whose interface this is: clients compare it with what they need."""


class Pull(Body):
    """A model to be fetched: by a name of the catalogue, Ollama's for it, or `hf.co/owner/repo:quant`."""

    model: str = ""
    name: str = ""
    stream: bool = True


class Show(Body):
    """A model that is asked about."""

    model: str = ""
    name: str = ""


def router(service: Service, pulls: Pulls) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["Ollama"], route_class=JsonRoute)

    @routes.get("/api/tags", summary="Models that are here")
    async def tags() -> dict[str, Any]:
        return {"models": [_entry(each) for each in await asyncio.to_thread(service.models.installed)]}

    @routes.get("/api/ps", summary="The model that is loaded")
    async def ps() -> dict[str, Any]:
        name, engine = service.serving.loaded, service.serving.engine
        if not name or not engine:
            return {"models": []}
        left_s = engine.idle_left_s
        expires = datetime.now(UTC) + timedelta(seconds=LONGEST_S if left_s is None else left_s)
        more = {"expires_at": stamp(expires), "context_length": engine.settings.n_ctx}
        return {"models": [_entry(service.models.find(name)) | _sizes(engine) | more]}

    @routes.post("/api/show", summary="About a model")
    async def show(body: Show) -> dict[str, Any]:
        return _about(service.models.find(body.model or body.name))

    @routes.post("/api/pull", summary="Fetch a model, where the operator allows it")
    async def pull(body: Pull, http: Request) -> Response:
        steps = pulls.pull(body.model or body.name)
        if body.stream:
            first = await unless_gone(http, anext(steps, None))
            return StreamingResponse(_pulled(first, steps), media_type="application/x-ndjson")
        await unless_gone(http, _to_the_end(steps))
        return Json({"status": "success"})

    @routes.get("/api/version", summary="The interface's version")
    async def version() -> dict[str, str]:
        return {"version": SPEAKS, "server": f"gguf-vl {__version__}"}

    return routes


async def _to_the_end(steps: AsyncGenerator[Told, None]) -> None:
    async with aclosing(steps):
        async for _ in steps:
            pass


async def _pulled(first: Told | None, steps: AsyncGenerator[Told, None]) -> AsyncIterator[bytes]:
    """The lines about a pull. What fails now can only be told in the stream."""
    yield line({"status": "pulling manifest"})
    try:
        async with aclosing(steps):
            if first is not None:
                yield line(_step(first))
            async for told in steps:
                yield line(_step(told))
        yield line({"status": "success"})
    except GgufVlError as error:
        yield line(error_body(failure_of(error)))


def _step(told: Told) -> dict[str, Any]:
    """Ollama's own client cuts its label out of a digest, so each file has one."""
    if isinstance(told, str):
        return {"status": told}
    digest = told.sha256 or hashlib.sha256(told.name.encode()).hexdigest()
    return {"status": f"pulling {told.name}", "digest": f"sha256:{digest}", "total": told.total, "completed": told.done}


def _entry(installed: Installed) -> dict[str, Any]:
    local = installed.local
    changed = datetime.fromtimestamp(local.model.stat().st_mtime, UTC)
    receipt = local.receipt
    return {
        "name": installed.name,
        "model": installed.name,
        "modified_at": stamp(changed),
        "size": local.n_bytes,
        "digest": (receipt and receipt.model.sha256) or _stand_in(installed),
        "details": _details(installed),
    }


def _stand_in(installed: Installed) -> str:
    """A digest for a model that has none written down: Ollama's own program cuts its ids out of them."""
    return hashlib.sha256(f"{installed.name} {installed.local.n_bytes}".encode()).hexdigest()


def _sizes(engine: Engine) -> dict[str, int]:
    """What the loaded model takes in all and on GPUs, in bytes: measured, or else planned; nothing where nothing is
    known.
    """
    parts: Sequence[Allocation] = engine.info.used.buffers if engine.info else ()
    if not parts and isinstance(engine, PlannedEngine):
        parts = engine.planned.plan.allocations
    in_all = {"size": sum(each.n_bytes for each in parts)} if parts else {}
    return in_all | {"size_vram": sum(each.n_bytes for each in parts if each.device != MAIN)}


def _details(installed: Installed) -> dict[str, Any]:
    text = installed.local.text
    n_parameters = sum(tensor.n_elements for tensor in text.tensors)
    return {
        "parent_model": "",
        "format": "gguf",
        "family": text.architecture,
        "families": [text.architecture],
        "parameter_size": f"{n_parameters / 1e9:.1f}B" if n_parameters >= 1e9 else f"{n_parameters / 1e6:.1f}M",
        "quantization_level": text.quantisation,
    }


def _about(installed: Installed) -> dict[str, Any]:
    text, known = installed.local.text, installed.known
    architecture = text.architecture
    sees = ["vision"] if installed.local.projector else []
    thinks = ["thinking"] if known and known.thinking else []
    return {
        "modelfile": "",
        "parameters": "",
        "template": text.chat_template or "",
        "details": _details(installed),
        "model_info": {
            "general.architecture": architecture,
            "general.parameter_count": sum(tensor.n_elements for tensor in text.tensors),
            f"{architecture}.context_length": text.n_ctx_train,
            f"{architecture}.embedding_length": text.n_embd,
            f"{architecture}.block_count": text.n_layer,
        },
        "capabilities": ["completion", *sees, "tools", *thinks],
        "modified_at": _entry(installed)["modified_at"],
    }
