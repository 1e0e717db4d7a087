"""What OpenAI's clients ask beside answers: `/v1/models` and `/v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from gguf_vl.errors import UsageError
from gguf_vl.runtime.models import Installed
from gguf_vl.server.answers import unless_gone
from gguf_vl.server.dialects.openai import Body
from gguf_vl.server.service import Service


class Embeddings(Body):
    """Texts whose embeddings are wanted."""

    model: str = ""
    input: str | list[str] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def router(service: Service) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["OpenAI"])

    @routes.get("/v1/models", summary="Models that can be asked for")
    async def models(http: Request) -> dict[str, Any]:
        found = await asyncio.to_thread(service.models.installed)
        if "anthropic-version" in http.headers:
            entries = [_for_anthropic(each) for each in found]
            return {"data": entries, "has_more": False, "first_id": found[0].name, "last_id": found[-1].name}
        return {"object": "list", "data": [_entry(each, service.n_ctx(each)) for each in found]}

    @routes.get("/v1/models/{name:path}", summary="A model")
    async def model(name: str, http: Request) -> dict[str, Any]:
        found = service.models.find(name)
        return _for_anthropic(found) if "anthropic-version" in http.headers else _entry(found, service.n_ctx(found))

    @routes.post("/v1/embeddings", summary="Embeddings of texts")
    async def embed(body: Embeddings, http: Request) -> dict[str, Any]:
        texts = [body.input] if isinstance(body.input, str) else body.input
        found = await unless_gone(http, service.embed(body.model, texts))
        if body.dimensions not in (None, len(found[0].values)):
            raise UsageError(f"Embeddings have {len(found[0].values)} dimensions here.", "Leave dimensions out.")
        n_tokens = sum(each.n_tokens for each in found)
        as_text = body.encoding_format == "base64"
        return {
            "object": "list",
            "model": service.models.find(body.model).name,
            "data": [
                {"object": "embedding", "index": n, "embedding": _packed(each.values) if as_text else each.values}
                for n, each in enumerate(found)
            ],
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }

    return routes


def _entry(installed: Installed, n_ctx: int | None) -> dict[str, Any]:
    """`n_ctx` is ours: the tokens of a prompt and its answer together, None before the model is planned."""
    return {
        "id": installed.name,
        "object": "model",
        "created": int(installed.local.model.stat().st_mtime),
        "owned_by": "gguf-vl",
        "n_ctx": n_ctx,
    }


def _for_anthropic(installed: Installed) -> dict[str, Any]:
    title = installed.known.title if installed.known else installed.name
    return {"type": "model", "id": installed.name, "display_name": title, "created_at": "2025-10-01T00:00:00Z"}


def _packed(values: tuple[float, ...]) -> str:
    """Little-endian float32, in base64."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
