"""The application: the dialects put together, in front of them the guard, and every failure in its dialect's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from gguf_vl import __version__
from gguf_vl.errors import GgufVlError
from gguf_vl.server import page_files, watching
from gguf_vl.server.answers import ClientLeft
from gguf_vl.server.dialects import (
    anthropic,
    ollama,
    ollama_models,
    openai,
    openai_chat,
    openai_completions,
    openai_models,
    openai_responses,
    own,
    plain,
)
from gguf_vl.server.failures import Failure, code_of, failure_of
from gguf_vl.server.guard import Guard, Rules
from gguf_vl.server.metrics import Metrics
from gguf_vl.server.pulling import Pulls
from gguf_vl.server.service import Service
from gguf_vl.server.starting import Start

ErrorBody = Callable[[Failure], dict[str, Any]]
_DIALECTS: tuple[tuple[str, str, ErrorBody], ...] = (
    ("/v1/messages", "anthropic", anthropic.error_body),
    ("/v1/pictures", "own", openai.error_body),
    ("/v1/tokenize", "own", openai.error_body),
    ("/v1/tasks", "own", openai.error_body),
    ("/v1/", "openai", openai.error_body),
    ("/api/v1/", "plain", plain.error_body),
    ("/ask", "plain", plain.error_body),
    ("/api/", "ollama", ollama.error_body),
    ("/health", watching.OPERATION, plain.error_body),
    ("/ready", watching.OPERATION, plain.error_body),
    ("/metrics", watching.OPERATION, plain.error_body),
    ("", "page", openai.error_body),
)
"""Whose a path is, by its beginning, and how a failure is told there."""


def make_app(
    service: Service,
    rules: Rules,
    start: Start,
    pulls: Pulls,
    *,
    tell: Callable[[str], None] = lambda _: None,
    log: Callable[[str], None] | None = None,
) -> FastAPI:
    """Everything that is served. `log` gets a line of JSON for each request, `tell` what a person should read."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start.run(service))
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await service.end()

    app = FastAPI(
        title="gguf-vl",
        version=__version__,
        lifespan=lifespan,
        default_response_class=openai.Json,
        docs_url=None,
        redoc_url=None,
    )
    for dialect in (openai_chat, openai_responses, openai_completions, openai_models, anthropic, plain, own, ollama):
        app.include_router(dialect.router(service))
    app.include_router(ollama_models.router(service, pulls))
    metrics = Metrics()
    app.include_router(watching.router(service, metrics, start))
    app.include_router(page_files.router())
    app.add_exception_handler(GgufVlError, _on_error)
    app.add_exception_handler(ClientLeft, _on_leaving)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(Guard, rules=rules, respond=respond, is_page=page_files.is_page)
    if rules.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(rules.origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(watching.Watch, metrics=metrics, respond=respond, dialect_of=dialect_of, log=log, tell=tell)
    return app


def dialect_of(path: str) -> str:
    """Whose a path is: a dialect's, the operator's or the page's."""
    return next(name for beginning, name, _ in _DIALECTS if path.startswith(beginning))


def respond(path: str, failure: Failure) -> Response:
    """A failure in the shape of the dialect that the path belongs to."""
    body = next(shape for beginning, _, shape in _DIALECTS if path.startswith(beginning))(failure)
    told = body.get("error")
    (told if isinstance(told, dict) else body).update(failure.more)
    return openai.Json(body, failure.status, failure.headers)


async def _on_error(http: Request, error: Exception) -> Response:
    assert isinstance(error, GgufVlError)
    return respond(http.url.path, failure_of(error))


async def _on_leaving(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's word for it, for the log


async def _on_invalid(http: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(each) for each in first["loc"][1:]) or "the body"
    return respond(http.url.path, Failure(400, f"{place}: {first['msg']}.", code_of(400)))


async def _on_http_error(http: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return respond(http.url.path, Failure(error.status_code, f"{error.detail}.", code_of(error.status_code)))
