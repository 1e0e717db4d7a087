"""OpenAI's older completions: `POST /v1/completions`. The prompt is a user's question, as chat models expect it."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import EventSourceResponse

from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.server.answers import Answer, begun, unless_gone, whole
from gguf_vl.server.asked import Asked, Turn
from gguf_vl.server.dialects import openai
from gguf_vl.server.dialects.openai import Generation, Json, StreamOptions
from gguf_vl.server.failures import failure_of
from gguf_vl.server.service import Events, Service
from gguf_vl.types import Finished, Likely, Text


class Completion(Generation):
    """The body."""

    prompt: str | list[str]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    suffix: str | None = None


def asked_of(body: Completion) -> Asked:
    """What the body asks for. Raises `UsageError` for what cannot be followed."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) != 1:
        raise UsageError(f"There are {len(prompts)} prompts in one request.", "Send one; for several answers use n.")
    if body.suffix:
        raise UsageError("The field suffix is not followed here.", "Leave it out.")
    return Asked(
        body.model,
        (Turn("user", (prompts[0],)),),
        body.sampling(),
        {"n_likely": body.logprobs},
        n=body.n or 1,
    )


def router(service: Service) -> APIRouter:
    """The endpoint."""
    routes = APIRouter(tags=["OpenAI"])

    @routes.post("/v1/completions", summary="Completions")
    async def complete(body: Completion, http: Request) -> Response:
        asked = asked_of(body)
        echoed = str(asked.turns[0].content[0]) if body.echo else ""
        head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.models.find(asked.model).name,
        }
        if body.stream:
            events = await unless_gone(http, begun(service.answer(asked)))
            return EventSourceResponse(
                _lines(head, asked.n, echoed, events, body.stream_options or StreamOptions()), sep="\n"
            )
        answers = await unless_gone(http, whole(service.answer(asked), asked.n))
        choices = [
            _choice(number, echoed + each.text, each.likely, openai.finish_reason(each))
            for number, each in enumerate(answers)
        ]
        usage = openai.usage_of([each.finished for each in answers])
        return Json(head | {"choices": choices, "usage": usage})

    return routes


async def _lines(
    head: dict[str, Any], n: int, echoed: str, events: Events, options: StreamOptions
) -> AsyncIterator[bytes]:
    chunk = head | ({"usage": None} if options.include_usage else {})
    answers = [Answer() for _ in range(n)]
    likely: list[list[Likely]] = [[] for _ in range(n)]
    try:
        if echoed:
            yield openai.line(chunk | {"choices": [_choice(number, echoed, [], None) for number in range(n)]})
        async with aclosing(events):
            async for number, event in events:
                answers[number].take(event)
                match event:
                    case Likely():
                        likely[number].append(event)
                    case Text(text):
                        told, likely[number] = likely[number], []
                        yield openai.line(chunk | {"choices": [_choice(number, text, told, None)]})
                    case Finished():
                        reason = openai.finish_reason(answers[number])
                        yield openai.line(chunk | {"choices": [_choice(number, "", likely[number], reason)]})
    except GgufVlError as error:
        yield openai.line(openai.error_body(failure_of(error)))
    else:
        if options.include_usage:
            yield openai.line(head | {"choices": [], "usage": openai.usage_of([each.finished for each in answers])})
    yield b"data: [DONE]\n\n"


def _choice(number: int, text: str, likely: list[Likely], reason: str | None) -> dict[str, Any]:
    logprobs = None
    if likely:
        logprobs = {
            "tokens": [each.token[0].decode("utf-8", "replace") for each in likely],
            "token_logprobs": [max(each.token[1], openai.LEAST) for each in likely],
            "top_logprobs": [
                {token.decode("utf-8", "replace"): max(logprob, openai.LEAST) for token, logprob in each.others}
                for each in likely
            ],
        }
    return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}
