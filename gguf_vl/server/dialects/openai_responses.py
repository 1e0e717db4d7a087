"""OpenAI's responses: `POST /v1/responses`, stateless or behind an earlier one, which is kept in memory for a while."""

from __future__ import annotations

import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import EventSourceResponse

from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.server.answers import Answer, begun, unless_gone, whole
from gguf_vl.server.asked import Asked, Shown, Turn
from gguf_vl.server.dialects import openai
from gguf_vl.server.dialects.openai import Body, Json
from gguf_vl.server.failures import NoSuchResponse, failure_of
from gguf_vl.server.service import Events, Located, Service
from gguf_vl.types import (
    Call,
    CallArguments,
    CallEnded,
    CallStarted,
    Event,
    Finished,
    Likely,
    Role,
    Text,
    Thinking,
    Tool,
)

KEPT = 64 << 20
"""Bytes of talks, pictures among them, that later requests may go on from."""
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


Content = str | list[dict[str, Any] | str]


class Item(Body):
    """A piece of the talk: a message, a call of a function, or what one gave back."""

    type: str | None = Field(None, json_schema_extra={"enum": ["message", "function_call", "function_call_output"]})
    role: str | None = Field(None, json_schema_extra={"enum": [*_ROLES]})
    content: Content | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content | None = None


class Responses(Body):
    """The body."""

    model: str = ""
    input: str | list[Item]
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool = False
    store: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=10)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[str] | None = None
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    truncation: str | None = None
    background: bool | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A response as JSON, the talk up to its end, and about how many bytes both take."""

    response: bytes
    turns: tuple[Turn, ...]
    n_bytes: int


class Memory:
    """Responses by id, `budget` bytes of them at most, the oldest going first."""

    def __init__(self, budget: int = KEPT) -> None:
        self._budget = budget
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._n_bytes = 0

    def put(self, response: dict[str, Any], turns: tuple[Turn, ...]) -> None:
        """Keep a response and its talk; one that alone takes more than there is room for is not kept."""
        as_json = openai.to_json(response)
        n_bytes = len(as_json) + sum(map(_n_bytes, turns))
        self._kept[response["id"]] = Kept(as_json, turns, n_bytes)
        self._n_bytes += n_bytes
        while self._n_bytes > self._budget:
            self.drop(next(iter(self._kept)))

    def get(self, id: str) -> Kept:
        """A response. Raises `NoSuchResponse` for one that is not, or no longer, here."""
        if id not in self._kept:
            raise NoSuchResponse(f"There is no response {id[:80]!r} here.", "Send the whole talk as input.")
        self._kept.move_to_end(id)
        return self._kept[id]

    def drop(self, id: str) -> None:
        """Forget a response."""
        self._n_bytes -= self.get(id).n_bytes
        del self._kept[id]


def _n_bytes(turn: Turn) -> int:
    """About what a turn takes."""
    parts = [part.source if isinstance(part, Shown) else part for part in turn.content]
    calls = [text for call in turn.calls for text in (call.id, call.name, call.arguments)]
    return sum(map(sys.getsizeof, (turn, *parts, *calls)))


def asked_of(body: Responses, before: tuple[Turn, ...]) -> Asked:
    """What the body asks for, behind the turns of an earlier response. Raises `UsageError`."""
    if body.background:
        raise UsageError("Answers are not made in the background here.", "Leave background out.")
    if getattr(body, "prompt", None):
        raise UsageError("No prompts are kept here.", "Send the prompt's text as instructions or input.")
    if getattr(body, "conversation", None):
        raise UsageError("Conversations are not kept here.", "Send previous_response_id, or the whole talk.")
    names = {"max_tokens": body.max_output_tokens, "temperature": body.temperature, "top_p": body.top_p}
    wants_likely = body.top_logprobs is not None or "message.output_text.logprobs" in (body.include or ())
    return Asked(
        body.model,
        (*([Turn("system", (body.instructions,))] if body.instructions else []), *turns_of(body.input, before)),
        {name: value for name, value in names.items() if value is not None},
        {
            "schema": openai.schema_of((body.text or {}).get("format")),
            "drop_oldest": body.truncation == "auto",
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "n_likely": (body.top_logprobs or 0) if wants_likely else None,
            "thinking_budget": openai.budget_of(None, (body.reasoning or {}).get("effort")),
        },
        tools=tuple(map(_tool, body.tools or ())),
        tool_choice=openai.tool_choice_of(body.tool_choice),
    )


def turns_of(input: str | Iterable[Item], before: Iterable[Turn] = ()) -> tuple[Turn, ...]:
    """The talk that is sent, behind what was said before. Calls belong to the assistant's turn before them."""
    if isinstance(input, str):
        return (*before, Turn("user", (input,)))
    talk: list[tuple[Turn, str | None]] = [(turn, None) for turn in before]
    for item in input:
        match item:
            case Item(type="function_call", call_id=str(id), name=str(name), arguments=str(arguments)):
                said = talk.pop()[0] if talk and talk[-1][0].role == "assistant" else Turn("assistant", ())
                talk.append((Turn("assistant", said.content, (*said.calls, Call(id, name, arguments))), None))
            case Item(type="function_call_output", output=str() | list()):
                talk.append((Turn("tool", openai.text_and_pictures(item.output)), item.call_id))
            case Item(type="reasoning"):
                pass  # thoughts are not read again
            case Item(type=None | "message", role=str(role)) if role in _ROLES:
                talk.append((Turn(_ROLES[role], openai.text_and_pictures(item.content)), None))
            case _:
                kind = item.type or "without a role"
                raise UsageError(f"The input has an item of the type {kind!r}.", "Send messages and function calls.")
    return openai.in_order(talk)


def _tool(tool: Mapping[str, Any]) -> Tool:
    match tool:
        case {"type": "function", "name": str(name)} if isinstance(tool.get("parameters"), dict | None):
            return Tool(name, tool.get("parameters"), str(tool.get("description") or ""))
    raise UsageError(
        f"A tool of the type {tool.get('type')!r} runs nowhere here, or has no name or schema.",
        "Give functions of your own.",
    )


def router(service: Service) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["OpenAI"])
    memory = Memory()

    def keep(making: _Making, talk: tuple[Turn, ...]) -> None:
        if making.body.store is not False:
            memory.put(making.response(), (*talk, _said(making.answer)))

    @routes.post("/v1/responses", summary="Responses")
    async def create(body: Responses, http: Request) -> Response:
        before = memory.get(body.previous_response_id).turns if body.previous_response_id else ()
        asked = asked_of(body, before)
        making = _Making(body, service.models.find(asked.model).name)
        making.check()
        talk = asked.turns[1:] if body.instructions else asked.turns
        if body.stream:
            events = await unless_gone(http, begun(service.answer(asked)))
            return EventSourceResponse(making.lines(events, lambda: keep(making, talk)), sep="\n")
        [answer] = await unless_gone(http, whole(service.answer(asked)))
        making.take_all(answer)
        keep(making, talk)
        return Json(making.response())

    @routes.get("/v1/responses/{id}", summary="A response that is kept")
    async def look_up(id: str) -> Response:
        return Response(memory.get(id).response, media_type="application/json")

    @routes.delete("/v1/responses/{id}", summary="Forget a response")
    async def forget(id: str) -> dict[str, Any]:
        memory.drop(id)
        return {"id": id, "object": "response", "deleted": True}

    return routes


def _said(answer: Answer) -> Turn:
    return Turn("assistant", (answer.text,) if answer.text else (), tuple(answer.calls))


class _Making:
    """A response as it comes into being: its items one after the other."""

    def __init__(self, body: Responses, name: str) -> None:
        self.body = body
        self.answer = Answer()
        self._output: list[dict[str, Any]] = []
        self._open: str | None = None  # the type of the item that is growing
        self._likely: list[Likely] = []
        self._n_sent = 0
        self._status = "in_progress"
        self._head = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": name,
        }

    def check(self) -> None:
        """Raises `UsageError` where JSON cannot write what the client wants to read again."""
        try:
            openai.to_json(self.response())
        except ValueError as error:
            raise UsageError("A number of the request is not finite.", "Leave out NaN and Infinity.") from error

    def take_all(self, answer: Answer) -> None:
        """Become the response of an answer that is whole."""
        events: list[Event] = [Thinking(answer.thinking)] if answer.thinking else []
        events += [*answer.likely, Text(answer.text)] if answer.text else answer.likely
        for index, call in enumerate(answer.calls):
            events += [CallStarted(index, call.id, call.name), CallArguments(index, call.arguments)]
            events.append(CallEnded(index, complete=True))
        for event in [*events, answer.finished]:
            self.answer.take(event)
            for _ in self._lines(event):
                pass

    def response(self) -> dict[str, Any]:
        """It as far as it is."""
        body, end = self.body, self.answer.end
        return self._head | {
            "status": self._status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if self._status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": getattr(body, "metadata", None) or {},
            "output": self._output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": body.reasoning or {"effort": None, "summary": None},
            "store": body.store is not False,
            "temperature": body.temperature,
            "text": body.text or {"format": {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": body.top_p,
            "truncation": body.truncation or "disabled",
            "usage": _usage(end) if end else None,
        }

    async def lines(self, events: Events, keep: Callable[[], None]) -> AsyncIterator[bytes]:
        """Server-sent events. What fails now can only be told in the stream. The response is kept before its end is
        told, since clients go away then.
        """
        yield self._line("response.created", response=self.response())
        yield self._line("response.in_progress", response=self.response())
        try:
            async with aclosing(events):
                async for _, event in events:
                    self.answer.take(event)
                    for line in self._lines(event):
                        yield line
        except GgufVlError as error:
            failure = failure_of(error)
            self._status = "failed"
            told = {"code": failure.code, "message": failure.message}
            yield self._line("response.failed", response=self.response() | {"error": told})
            return
        keep()
        yield self._line(f"response.{self._status}", response=self.response())

    def _lines(self, event: Event | Located) -> Iterable[bytes]:
        match event:
            case Thinking(text):
                yield from self._begin("reasoning", {"summary": [], "content": []}, {"type": "reasoning_text"})
                yield self._grow("response.reasoning_text.delta", text)
            case Text(text):
                more: dict[str, Any] = {"annotations": [], "logprobs": []}
                item = {"role": "assistant", "content": []}
                yield from self._begin("message", item, {"type": "output_text", **more})
                likely, self._likely = openai.logprobs_of(self._likely), []
                self._part["logprobs"] += likely
                yield self._grow("response.output_text.delta", text, logprobs=likely)
            case Likely():
                self._likely.append(event)
            case CallStarted(_, id, name):
                yield from self._end()
                yield from self._begin("function_call", {"call_id": id, "name": name, "arguments": ""}, None)
            case CallArguments(_, text):
                self._item["arguments"] += text
                yield self._line("response.function_call_arguments.delta", **self._place(), delta=text)
            case CallEnded():
                yield from self._end()
            case Finished(reason):
                yield from self._end()
                self._status = "incomplete" if reason in ("length", "loop") else "completed"

    @property
    def _item(self) -> dict[str, Any]:
        return self._output[-1]

    @property
    def _part(self) -> dict[str, Any]:
        found: dict[str, Any] = self._item["content"][-1]
        return found

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item["id"], "output_index": len(self._output) - 1}

    def _begin(self, kind: str, item: dict[str, Any], part: dict[str, Any] | None) -> Iterable[bytes]:
        if self._open == kind:
            return
        yield from self._end()
        self._open = kind
        short = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[kind]
        self._output.append({"id": f"{short}_{uuid.uuid4().hex}", "type": kind, "status": "in_progress", **item})
        yield self._line("response.output_item.added", output_index=len(self._output) - 1, item=self._item)
        if part:
            self._item["content"].append({"text": "", **part})
            yield self._line("response.content_part.added", **self._place(), content_index=0, part=self._part)

    def _grow(self, kind: str, text: str, **more: Any) -> bytes:
        self._part["text"] += text
        return self._line(kind, **self._place(), content_index=0, delta=text, **more)

    def _end(self) -> Iterable[bytes]:
        if self._open is None:
            return
        kind, self._open = self._open, None
        self._item["status"] = "completed"
        if kind == "function_call":
            done = {"name": self._item["name"], "arguments": self._item["arguments"]}
            yield self._line("response.function_call_arguments.done", **self._place(), **done)
        else:
            word = "reasoning_text" if kind == "reasoning" else "output_text"
            more = {"logprobs": self._part["logprobs"]} if kind == "message" else {}
            text = self._part["text"]
            yield self._line(f"response.{word}.done", **self._place(), content_index=0, text=text, **more)
            yield self._line("response.content_part.done", **self._place(), content_index=0, part=self._part)
        yield self._line("response.output_item.done", output_index=len(self._output) - 1, item=self._item)

    def _line(self, kind: str, **data: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._n_sent, **data}
        self._n_sent += 1
        return openai.named_line(kind, data)


def _usage(end: Finished) -> dict[str, Any]:
    return {
        "input_tokens": end.usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": end.timings.tokens_reused},
        "output_tokens": end.usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": end.usage.prompt_tokens + end.usage.completion_tokens,
    }
