"""Anthropic's messages: `POST /v1/messages` and `/v1/messages/count_tokens`."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from sse_starlette import EventSourceResponse

from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.server.answers import Answer, begun, unless_gone, whole
from gguf_vl.server.asked import Asked, Shown, Turn
from gguf_vl.server.dialects import openai
from gguf_vl.server.dialects.openai import Body, Json
from gguf_vl.server.failures import Failure, failure_of
from gguf_vl.server.service import Events, Located, Service
from gguf_vl.types import (
    Call,
    CallArguments,
    CallEnded,
    CallStarted,
    Event,
    Finished,
    Progress,
    Text,
    Thinking,
    Tool,
    ToolChoice,
)

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


_SILENT = ("mcp_servers", "container", "thread")
"""Fields that change what an answer is, and that nothing here can follow."""
_BLOCKS: list[JsonValue] = ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"]


class Block(Body):
    """A piece of a message."""

    type: str = Field("", json_schema_extra={"enum": _BLOCKS})
    text: str | None = None
    source: dict[str, Any] | None = None
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None


class Message(Body):
    """A turn of a talk."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class AnyTool(Body):
    """A tool, of the client's own or of a type that only Anthropic runs."""

    type: str | None = None
    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class OutputConfig(Body):
    """What an answer is to be like."""

    format: dict[str, Any] | None = None


class CountTokens(Body):
    """What a prompt is made of."""

    model: str = ""
    messages: list[Message] = Field(min_length=1)
    system: str | list[Block] | None = None
    tools: list[AnyTool] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None


class Messages(CountTokens):
    """The body."""

    max_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=10)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)


def error_body(failure: Failure) -> dict[str, Any]:
    """An error as Anthropic's clients expect it."""
    kind = _KINDS.get(failure.status, "api_error" if failure.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": failure.message}}


def asked_of(body: CountTokens) -> Asked:
    """What the body asks for. Raises `UsageError` for what cannot be followed."""
    for name in _SILENT:
        if getattr(body, name, None):
            raise UsageError(f"The field {name} is not followed here.", "Leave it out.")
    given = {name: getattr(body, name, None) for name in ("max_tokens", "temperature", "top_p", "top_k")}
    if stops := getattr(body, "stop_sequences", None):
        given["stop"] = tuple(stops)
    choice, one_at_most = _tool_choice(body.tool_choice)
    system = (body.system,) if isinstance(body.system, str) else tuple(_text(part) for part in body.system or ())
    return Asked(
        body.model,
        (*([Turn("system", system)] if system else []), *_turns(body.messages)),
        {name: value for name, value in given.items() if value is not None},
        {
            "schema": openai.schema_of(body.output_format or (body.output_config and body.output_config.format)),
            "thinking_budget": _budget(body.thinking),
            "parallel_tool_calls": not one_at_most,
        },
        tools=tuple(map(_tool, body.tools or ())),
        tool_choice=choice,
    )


def _turns(messages: Iterable[Message]) -> tuple[Turn, ...]:
    talk: list[tuple[Turn, str | None]] = []
    for message in messages:
        blocks = [Block(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        if message.role == "assistant":
            talk.append((Turn("assistant", tuple(_said(blocks)), tuple(_calls(blocks))), None))
            continue
        results = [block for block in blocks if block.type == "tool_result"]
        talk += [(Turn("tool", tuple(_content(block.content or ""))), block.tool_use_id) for block in results]
        if others := [block for block in blocks if block.type != "tool_result"]:
            talk.append((Turn("user", tuple(_content(others))), None))
    return openai.in_order(talk)


def _said(blocks: Iterable[Block]) -> Iterable[str]:
    """What the assistant said; its thoughts are not read again."""
    return [_text(each) for each in blocks if each.type not in ("tool_use", "thinking", "redacted_thinking")]


def _calls(blocks: Iterable[Block]) -> Iterable[Call]:
    for block in blocks:
        match block:
            case Block(type="tool_use", name=str(name), input=dict(arguments)):
                yield Call(block.id or "", name, json.dumps(arguments, ensure_ascii=False))
            case Block(type="tool_use"):
                raise UsageError("A tool_use has no name or no input.", "Send it as it came.")


def _text(block: Block) -> str:
    if block.type == "text" and block.text is not None:
        return block.text
    raise UsageError(f"A block of the type {block.type!r} stands where text does.", "Send text.")


def _content(content: str | Iterable[Block]) -> Iterable[str | Shown]:
    if isinstance(content, str):
        return [content]
    return [part for each in content for part in _parts(each)]


def _parts(block: Block) -> Iterable[str | Shown]:
    match block.type:
        case "image":
            return [_picture(block.source)]
        case "document":
            return _document(block)
    return [_text(block)]


def _document(block: Block) -> Iterable[str | Shown]:
    """A document behind what is told of it: a PDF, a text, or content of blocks."""
    if block.citations and block.citations.get("enabled"):
        raise UsageError("Documents are not cited here.", "Leave out citations.")
    told = [text for text in (block.title, block.context) if text]
    match block.source:
        case {"type": "text", "data": str(text)} | {"type": "content", "content": str(text)}:
            return [*told, text]
        case {"type": "content", "content": list(blocks)}:
            try:
                return [*told, *_content(TypeAdapter(list[Block]).validate_python(blocks))]
            except ValidationError as error:
                raise UsageError("The content of a document is no list of blocks.", "Send text or images.") from error
    return [*told, replace(_picture(block.source), name=block.title or "")]


def _picture(source: object) -> Shown:
    match source:
        case {"type": "base64", "data": str(data)}:
            return Shown(f"data:;base64,{data}")
        case {"type": "url", "url": str(url)}:
            return Shown(url)
        case {"type": "file", "file_id": str(id)}:
            return Shown(id)
    raise UsageError("A block has no source that is known here.", "Send base64, or the id of an uploaded picture.")


def _tool(tool: AnyTool) -> Tool:
    if tool.type in (None, "custom"):
        return Tool(tool.name, tool.input_schema, tool.description or "")
    raise UsageError(f"A tool of the type {tool.type!r} runs nowhere here.", "Give tools of your own.")


def _tool_choice(choice: Mapping[str, Any] | None) -> tuple[ToolChoice, bool]:
    """The choice, and whether one call at most is wanted."""
    one_at_most = bool(choice and choice.get("disable_parallel_tool_use"))
    match choice:
        case None | {"type": "auto"}:
            return "auto", one_at_most
        case {"type": "any"}:
            return "required", one_at_most
        case {"type": "none"}:
            return "none", one_at_most
        case {"type": "tool", "name": str(name)}:
            return name, True
    raise UsageError("The tool_choice is none that is known here.", "Take auto, any, none, or name one tool.")


def _budget(thinking: Mapping[str, Any] | None) -> int | None:
    match thinking:
        case None | {"type": "adaptive"}:
            return None
        case {"type": "disabled"}:
            return 0
        case {"type": "enabled", "budget_tokens": int(tokens)} if tokens >= 0:
            return tokens
    raise UsageError("The field thinking is not understood.", 'Send {"type": "enabled", "budget_tokens": 1024}.')


def router(service: Service) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["Anthropic"])

    @routes.post("/v1/messages", summary="Messages")
    async def create(body: Messages, http: Request) -> Response:
        asked = asked_of(body)
        name = service.models.find(asked.model).name
        if body.stream:
            events = await unless_gone(http, begun(service.answer(asked)))
            return EventSourceResponse(_Stream(name).lines(events), sep="\n")
        [answer] = await unless_gone(http, whole(service.answer(asked)))
        message = _message(name, _blocks(answer), _usage(answer.finished))
        return Json(message | _stop(answer.finished, called=bool(answer.calls)))

    @routes.post("/v1/messages/count_tokens", summary="Count a prompt's tokens")
    async def count(body: CountTokens, http: Request) -> dict[str, int]:
        usage = await unless_gone(http, service.count(asked_of(body)))
        return {"input_tokens": usage.prompt_tokens}

    return routes


def _message(name: str, content: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": name,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.thinking:
        blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": ""})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    return blocks + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": openai.arguments_of(call)}
        for call in answer.calls
    ]


def _stop(end: Finished, *, called: bool) -> dict[str, Any]:
    if end.finish_reason in ("length", "loop"):
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if end.stopped_by:
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stopped_by}
    return {"stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None}


def _usage(end: Finished) -> dict[str, int]:
    read = end.timings.tokens_reused
    return {
        "input_tokens": end.usage.prompt_tokens - read,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": 0,
        "output_tokens": end.usage.completion_tokens,
    }


class _Stream:
    """The events of a streamed message: blocks one after the other, each begun, grown and ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: str | None = None  # the kind of the block that is growing
        self._index = -1
        self._called = False

    async def lines(self, events: Events) -> AsyncIterator[bytes]:
        """Server-sent events. What fails now can only be told in the stream. The message starts when the length of its
        prompt is known, or else with its first word.
        """
        started = False
        try:
            async with aclosing(events):
                async for _, event in events:
                    if not started:
                        prompt = event.total if isinstance(event, Progress) and event.stage == "prefill" else 0
                        if isinstance(event, Progress) and not prompt:
                            continue
                        started = True
                        yield self._start(prompt)
                    for line in self._lines(event):
                        yield line
        except GgufVlError as error:
            if not started:
                yield self._start(0)
            yield _line(**error_body(failure_of(error)))

    def _start(self, n_prompt: int) -> bytes:
        so_far = {"input_tokens": n_prompt, "output_tokens": 0}
        return _line("message_start", message=_message(self._name, [], so_far))

    def _lines(self, event: Event | Located) -> Iterable[bytes]:
        match event:
            case Text(text):
                yield from self._in_block("text", {"type": "text", "text": ""})
                yield self._delta(type="text_delta", text=text)
            case Thinking(text):
                yield from self._in_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                yield self._delta(type="thinking_delta", thinking=text)
            case CallStarted(_, id, name):
                self._called = True
                yield from self._end_block()
                yield from self._in_block("tool_use", {"type": "tool_use", "id": id, "name": name, "input": {}})
            case CallArguments(_, text):
                yield self._delta(type="input_json_delta", partial_json=text)
            case CallEnded():
                yield from self._end_block()
            case Finished():
                yield from self._end_block()
                yield _line("message_delta", delta=_stop(event, called=self._called), usage=_usage(event))
                yield _line("message_stop")

    def _in_block(self, kind: str, block: dict[str, Any]) -> Iterable[bytes]:
        if self._open == kind:
            return
        yield from self._end_block()
        self._open = kind
        self._index += 1
        yield _line("content_block_start", index=self._index, content_block=block)

    def _end_block(self) -> Iterable[bytes]:
        if self._open:
            yield _line("content_block_stop", index=self._index)
        self._open = None

    def _delta(self, **delta: Any) -> bytes:
        return _line("content_block_delta", index=self._index, delta=delta)


def _line(type: str, **data: Any) -> bytes:
    return openai.named_line(type, {"type": type, **data})
