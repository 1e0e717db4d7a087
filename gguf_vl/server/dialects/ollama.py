"""Ollama's interface to a model: `/api/chat`, `/api/generate`, `/api/embed`. Streams are NDJSON."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, Field

from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.server.answers import Answer, begun, unless_gone, whole
from gguf_vl.server.asked import Asked, Shown, Turn, base64_or_named
from gguf_vl.server.dialects import openai
from gguf_vl.server.dialects.openai import Body, FunctionTool, Json
from gguf_vl.server.failures import Failure, failure_of
from gguf_vl.server.service import Events, Service
from gguf_vl.types import Call, CallEnded, Finished, Likely, Text, Thinking

_OPTIONS = {
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
}
"""Ollama's words and ours."""
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+)")
LONGEST_S = 2.0**63 / 1e9
"""Go's longest duration, some 292 years: Ollama's "for ever"."""


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("Input should be a number")
    return value


Whole = Annotated[int, BeforeValidator(_a_number)]
Real = Annotated[float, BeforeValidator(_a_number)]


class Options(Body):
    """How an answer is sampled. The options that are about loading a model are the operator's here, and let pass."""

    num_predict: Whole | None = None
    temperature: Real | None = Field(None, ge=0, le=10)
    top_k: Whole | None = Field(None, ge=0, le=1_000_000)
    top_p: Real | None = Field(None, ge=0, le=1)
    min_p: Real | None = Field(None, ge=0, le=1)
    repeat_penalty: Real | None = Field(None, gt=0, le=10)
    presence_penalty: Real | None = Field(None, ge=-10, le=10)
    frequency_penalty: Real | None = Field(None, ge=-10, le=10)
    seed: Whole | None = None
    stop: str | list[str] | None = None


class Message(Body):
    """A turn of a talk."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Common(Body):
    """What chats and generations have in common."""

    model: str = ""
    stream: bool = True
    format: str | dict[str, Any] | None = None
    options: Options = Field(default_factory=lambda: Options.model_validate({}))
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class Chat(Common):
    """The body of a chat."""

    messages: list[Message] = Field(default_factory=list)
    tools: list[FunctionTool] | None = None


class Generate(Common):
    """The body of a generation: one prompt, with pictures."""

    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None


class Embed(Body):
    """Texts whose embeddings are wanted."""

    model: str = ""
    input: str | list[str] = Field(default_factory=list)
    keep_alive: float | str | None = None


class EmbedOne(Body):
    """A text whose embedding is wanted, as Ollama asked before."""

    model: str = ""
    prompt: str = ""
    keep_alive: float | str | None = None


def error_body(failure: Failure) -> dict[str, Any]:
    """An error as Ollama's clients expect it."""
    return {"error": failure.message}


def asked_to_chat(body: Chat) -> Asked:
    """What a chat asks for. Raises `UsageError` for what cannot be followed."""
    turns = [Turn(each.role, _content(each.content, each.images), _calls(each)) for each in body.messages]
    return _asked(body, turns, tools=openai.tools_of(body.tools or ()))


def asked_to_generate(body: Generate) -> Asked:
    """What a generation asks for. Raises `UsageError` for what cannot be followed."""
    for name in ("suffix", "template", "raw", "context"):
        if getattr(body, name, None):
            raise UsageError(f"The field {name} is not followed here.", "Leave it out, or use /api/chat.")
    system = [Turn("system", (body.system,))] if body.system else []
    return _asked(body, [*system, Turn("user", _content(body.prompt, body.images))])


def _asked(body: Common, turns: list[Turn], **more: Any) -> Asked:
    return Asked(body.model, tuple(turns), _sampling(body.options), _held(body), **more)


def _content(text: str, images: list[str] | None) -> tuple[str | Shown, ...]:
    """Pictures come before the text, as Ollama puts them."""
    return (*map(base64_or_named, images or ()), *((text,) if text else ()))


def _calls(message: Message) -> tuple[Call, ...]:
    calls = []
    for number, each in enumerate(message.tool_calls or ()):
        match each:
            case {"function": {"name": str(name), "arguments": dict(arguments)}}:
                calls.append(Call(str(each.get("id", number)), name, json.dumps(arguments, ensure_ascii=False)))
            case _:
                raise UsageError("One of the tool_calls names no function with arguments.", "Send it as it came.")
    return tuple(calls)


def _sampling(options: Options) -> dict[str, Any]:
    given = {ours: getattr(options, theirs) for theirs, ours in _OPTIONS.items()}
    if options.num_predict is not None and options.num_predict <= 0:
        given["max_tokens"] = None  # as far as it goes
    if options.seed is not None:
        given["seed"] = options.seed % openai.SEEDS
    given["stop"] = openai.stops_of(options.stop) or None
    return {name: value for name, value in given.items() if value is not None}


def _held(body: Common) -> dict[str, Any]:
    schema: Any = None
    if isinstance(body.format, dict):
        schema = body.format
    elif body.format == "json":
        schema = {"type": "object"}
    elif body.format:
        raise UsageError(f"The format is {body.format!r}.", "Take json, or a JSON schema.")
    return {
        "schema": schema,
        "thinking_budget": 0 if body.think is False else None,
        "n_likely": (body.top_logprobs or 0) if body.logprobs else None,
    }


def seconds_of(keep_alive: float | str) -> float | None:
    """How long a model stays loaded, None for ever. Raises `UsageError` for what is no duration: a number of seconds,
    or Go's form, `1h30m`.
    """
    seconds = _seconds(keep_alive.strip()) if isinstance(keep_alive, str) else keep_alive
    if math.isnan(seconds):
        raise UsageError(f"The keep_alive is {str(keep_alive)[:80]!r}.", "Give seconds, or 1h30m, or -1 for ever.")
    return seconds if 0 <= seconds < LONGEST_S else None


def _seconds(duration: str) -> float:
    """NaN for what is none."""
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", duration):
        return float(duration)
    if not (found := _DURATION.fullmatch(duration)):
        return math.nan
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, found[2]))
    return -seconds if found[1] == "-" else seconds


class JsonRoute(APIRoute):
    """Takes any body for JSON, as Ollama does: its documentation's lines for curl do not say what they send."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request, which is told that it is JSON."""
        handle = super().get_route_handler()

        async def handle_as_json(http: Request) -> Response:
            others = [(name, value) for name, value in http.scope["headers"] if name != b"content-type"]
            headers = [*others, (b"content-type", b"application/json")]
            return await handle(Request({**http.scope, "headers": headers}, http.receive))

        return handle_as_json


class _Kept:
    """A block that asks a model for something. From its end on the model stays loaded for as long as `keep_alive` says,
    counted from its last answer's end; where it says nothing, for as long as before.
    """

    def __init__(self, service: Service, name: str, keep_alive: float | str | None) -> None:
        self.idle_s = None if keep_alive is None else seconds_of(keep_alive)
        self._is_said = keep_alive is not None
        self._service = service
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_said:
            self._service.serving.keep(self._name, self.idle_s)


def router(service: Service) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["Ollama"], route_class=JsonRoute)

    async def answer(http: Request, body: Common, asked: Asked, stream: type[_Stream]) -> Response:
        """The answer; where nothing is asked, the model is only loaded, or unloaded."""
        name = service.models.find(asked.model).name
        lines = stream(body.model or name)
        with _Kept(service, name, body.keep_alive) as kept:
            if not any(turn.content for turn in asked.turns):
                reason = "unload" if kept.idle_s == 0 else "load"
                await unless_gone(http, service.unload(name) if reason == "unload" else service.load(name))
                return Json(lines.part("") | {"done": True, "done_reason": reason})
            if not body.stream:
                [found] = await unless_gone(http, whole(service.answer(asked)))
                return Json(lines.whole(found))
            events = await unless_gone(http, begun(service.answer(asked)))
        return StreamingResponse(lines.lines(events), media_type="application/x-ndjson")

    @routes.post("/api/chat", summary="Chat")
    async def chat(body: Chat, http: Request) -> Response:
        return await answer(http, body, asked_to_chat(body), _ChatStream)

    @routes.post("/api/generate", summary="Generate")
    async def generate(body: Generate, http: Request) -> Response:
        return await answer(http, body, asked_to_generate(body), _GenerateStream)

    @routes.post("/api/embed", summary="Embeddings of texts")
    async def embed(body: Embed, http: Request) -> dict[str, Any]:
        began = time.perf_counter_ns()
        texts = [body.input] if isinstance(body.input, str) else body.input
        with _Kept(service, service.models.find(body.model).name, body.keep_alive):
            found = await unless_gone(http, service.embed(body.model, texts))
        return {
            "model": body.model or service.models.default.name,
            "embeddings": [each.values for each in found],
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": 0,
            "prompt_eval_count": sum(each.n_tokens for each in found),
        }

    @routes.post("/api/embeddings", summary="The embedding of a text")
    async def embed_one(body: EmbedOne, http: Request) -> dict[str, Any]:
        with _Kept(service, service.models.find(body.model).name, body.keep_alive):
            [found] = await unless_gone(http, service.embed(body.model, [body.prompt]))
        return {"embedding": found.values}

    return routes


def stamp(when: datetime) -> str:
    """A time as Go writes it."""
    return when.isoformat().replace("+00:00", "Z")


class _Stream:
    """The lines of a streamed answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.perf_counter_ns()

    def part(self, text: str, **more: Any) -> dict[str, Any]:
        """A line with a piece of the answer."""
        raise NotImplementedError

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The only line of an answer that is not streamed."""
        more: dict[str, Any] = {"thinking": answer.thinking} if answer.thinking else {}
        if answer.calls:
            more["tool_calls"] = [_call(number, call) for number, call in enumerate(answer.calls)]
        likely = {"logprobs": openai.logprobs_of(answer.likely)} if answer.likely else {}
        return self.part(answer.text, **more) | likely | self._end(answer.finished)

    async def lines(self, events: Events) -> AsyncIterator[bytes]:
        """A JSON text on each line. What fails now can only be told in the stream."""
        answer = Answer()
        likely: list[Likely] = []
        try:
            async with aclosing(events):
                async for _, event in events:
                    answer.take(event)
                    match event:
                        case Text(text):
                            told = {"logprobs": openai.logprobs_of(likely)} if likely else {}
                            likely = []
                            yield line(self.part(text) | told)
                        case Thinking(text):
                            yield line(self.part("", thinking=text))
                        case Likely():
                            likely.append(event)
                        case CallEnded(index):
                            yield line(self.part("", tool_calls=[_call(index, answer.calls[index])]))
                        case Finished():
                            yield line(self.part("") | self._end(event))
        except GgufVlError as error:
            yield line(error_body(failure_of(error)))

    def _head(self) -> dict[str, Any]:
        return {"model": self._name, "created_at": stamp(datetime.now(UTC)), "done": False}

    def _end(self, end: Finished) -> dict[str, Any]:
        """Durations are nanoseconds."""
        n, rate = end.usage.completion_tokens, end.timings.decode_tps
        decode_s = (n - 1) / rate if rate else 0.0
        total = time.perf_counter_ns() - self._began
        prefill = round(1e9 * (end.timings.encode_s + end.timings.prefill_s))
        return {
            "done": True,
            "done_reason": "length" if end.finish_reason in ("length", "loop") else "stop",
            "total_duration": total,
            "load_duration": max(0, total - round(1e9 * (end.timings.ttft_s + decode_s))),
            "prompt_eval_count": end.usage.prompt_tokens,
            "prompt_eval_duration": prefill,
            "eval_count": n,
            "eval_duration": round(1e9 * decode_s),
        }


class _ChatStream(_Stream):
    """Pieces of a message."""

    def part(self, text: str, **more: Any) -> dict[str, Any]:
        """A line with a piece of the message."""
        return self._head() | {"message": {"role": "assistant", "content": text, **more}}


class _GenerateStream(_Stream):
    """Pieces of a response."""

    def part(self, text: str, **more: Any) -> dict[str, Any]:
        """A line with a piece of the response."""
        return self._head() | {"response": text, **more}


def _call(number: int, call: Call) -> dict[str, Any]:
    """Ollama tells arguments as an object, and only when they are whole."""
    function = {"index": number, "name": call.name, "arguments": openai.arguments_of(call)}
    return {"id": call.id, "function": function}


def line(data: dict[str, Any]) -> bytes:
    """A line of a stream."""
    return openai.to_json(data) + b"\n"
