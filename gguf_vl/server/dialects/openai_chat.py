"""OpenAI's chat completions: `POST /v1/chat/completions`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import EventSourceResponse

from gguf_vl.errors import AnswerInvalid, CutOff, GgufVlError, UsageError
from gguf_vl.server.answers import Answer, begun, unless_gone, whole
from gguf_vl.server.asked import Asked, Turn
from gguf_vl.server.dialects import openai
from gguf_vl.server.dialects.openai import Body, FunctionTool, Generation, Json, StreamOptions
from gguf_vl.server.failures import failure_of
from gguf_vl.server.service import Events, Located, Service
from gguf_vl.tasks import results
from gguf_vl.tasks.task import find
from gguf_vl.types import Call, CallArguments, CallStarted, Event, Finished, Likely, Progress, Role, Text, Thinking

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_SILENT = ("audio", "modalities", "functions", "function_call", "web_search_options")
"""Fields that change what an answer is, and that nothing here can follow."""


class Message(Body):
    """A turn of a talk. One of the user's may be a `task` by its name, with its `parameters`: its text is then added to
    the task's.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any] | str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    task: str | None = None
    parameters: dict[str, str] | None = None


class ChatCompletion(Generation):
    """The body. Of the fields below the line, which OpenAI does not have, most are those of llama.cpp and vLLM. `task`
    and `parameters` are those of the last message.
    """

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    # ---
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    grammar: str | None = None
    thinking_budget: int | None = Field(None, ge=0)
    loop_guard: bool = True
    boxes: bool = False
    task: str | None = None
    parameters: dict[str, str] | None = None


def asked_of(body: ChatCompletion) -> Asked:
    """What the body asks for. Raises `UsageError` for what cannot be followed."""
    for name in _SILENT:
        if getattr(body, name, None) not in (None, [], ["text"]):
            raise UsageError(f"The field {name} is not followed here.", "Leave it out.")
    more = {name: getattr(body, name) for name in ("top_k", "min_p", "repetition_penalty")}
    options = {
        "schema": openai.schema_of(body.response_format),
        "grammar": body.grammar,
        "thinking_budget": openai.budget_of(body.thinking_budget, body.reasoning_effort),
        "loop_guard": body.loop_guard,
        "n_likely": (body.top_logprobs or 0) if body.logprobs else None,
    }
    turns = turns_of(_with_task(body))
    if turns[-1].task and (body.response_format or body.grammar or body.tools):
        raise UsageError(
            f"The task {turns[-1].task.name} says itself what its answer is.",
            "Leave out response_format, grammar and tools, or the task.",
        )
    return Asked(
        body.model,
        turns,
        body.sampling(max_tokens=body.max_completion_tokens or body.max_tokens, **more),
        options | {"parallel_tool_calls": body.parallel_tool_calls is not False},
        tools=openai.tools_of(body.tools or ()),
        tool_choice=openai.tool_choice_of(body.tool_choice),
        n=body.n or 1,
        boxes=body.boxes,
    )


def _with_task(body: ChatCompletion) -> list[Message]:
    """The messages, the last one with the task that stands beside them all."""
    *earlier, last = body.messages
    if body.task is None and body.parameters is None:
        return body.messages
    if last.task is not None:
        raise UsageError("There is a task beside the messages and one in the last of them.", "Leave out one.")
    return [*earlier, last.model_copy(update={"task": body.task, "parameters": body.parameters})]


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """The talk."""
    return openai.in_order((_turn(each), each.tool_call_id) for each in messages)


def _turn(message: Message) -> Turn:
    content = openai.text_and_pictures(message.content)
    if message.task is None and message.parameters is None:
        return Turn(_ROLES[message.role], content, _calls(message))
    if message.task is None or message.role != "user":
        raise UsageError(
            "There are parameters and no task, or a task in a message that is not the user's.",
            "Give `task`, with its `parameters`, in a message of the role user.",
        )
    return Turn("user", content, task=find(message.task), given=message.parameters or {})


def _calls(message: Message) -> tuple[Call, ...]:
    calls = []
    for each in message.tool_calls or ():
        match each:
            case {"function": {"name": str(name), "arguments": str(arguments)}}:
                calls.append(Call(str(each.get("id", "")), name, arguments))
            case _:
                raise UsageError("One of the tool_calls names no function with arguments.", "Send it as it came.")
    return tuple(calls)


def router(service: Service) -> APIRouter:
    """The endpoint."""
    routes = APIRouter(tags=["OpenAI"])

    @routes.post("/v1/chat/completions", summary="Chat completions")
    async def complete(body: ChatCompletion, http: Request) -> Response:
        asked = asked_of(body)
        name = service.models.find(asked.model).name
        if not body.stream:
            answers = await unless_gone(http, whole(service.answer(asked), asked.n))
            return Json(_completion(name, asked, answers))
        events = await unless_gone(http, begun(service.answer(asked)))
        stream = _Stream(name, asked, body.stream_options or StreamOptions())
        return EventSourceResponse(stream.lines(events), sep="\n")

    return routes


def _id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _completion(name: str, asked: Asked, answers: list[Answer]) -> dict[str, Any]:
    return {
        "id": _id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [_choice(number, asked, answer) for number, answer in enumerate(answers)],
        "usage": openai.usage_of([each.finished for each in answers]),
        "timings": asdict(answers[0].finished.timings),
    }


def _choice(number: int, asked: Asked, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if answer.calls else "")}
    message["refusal"] = None
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if answer.calls:
        message["tool_calls"] = [_call(call) for call in answer.calls]
    if asked.boxes:
        message |= _places(answer)
    message |= _read(asked, answer)
    likely = {"content": openai.logprobs_of(answer.likely), "refusal": None} if answer.likely else None
    return {"index": number, "message": message, "logprobs": likely, "finish_reason": openai.finish_reason(answer)}


def _places(located: Answer | Located) -> dict[str, Any]:
    boxes, points = [asdict(box) for box in located.boxes], [asdict(point) for point in located.points]
    return {"boxes": boxes, "points": points, "located_in": located.size}


def _read(asked: Asked, answer: Answer) -> dict[str, Any]:
    """What a task's answer is as data, where it is: `fields`, None where it was cut off, and the `rows` of a table."""
    if not asked.task or asked.task.schema is None:
        return {}
    try:
        result = results.read(asked.task, answer.text, answer.finished, ())
    except (CutOff, AnswerInvalid):
        return {"fields": None}
    return {"fields": result.fields} | ({"rows": result.rows} if asked.task.shown == "table" else {})


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class _Stream:
    """The chunks of a streamed completion."""

    def __init__(self, name: str, asked: Asked, options: StreamOptions) -> None:
        self._asked = asked
        self._head = {"id": _id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": name}
        self._options = options
        self._answers = [Answer() for _ in range(asked.n)]
        self._likely: list[list[Likely]] = [[] for _ in range(asked.n)]

    async def lines(self, events: Events) -> AsyncIterator[bytes]:
        """Server-sent events, one for each chunk. What fails now can only be told in the stream."""
        for number in range(len(self._answers)):
            yield self._chunk(number, {"role": "assistant", "content": ""})
        try:
            async with aclosing(events):
                async for number, event in events:
                    self._answers[number].take(event)
                    if line := self._line(number, event):
                        yield line
        except GgufVlError as error:
            yield openai.line(openai.error_body(failure_of(error)))
        else:
            if self._options.include_usage:
                usage = openai.usage_of([each.finished for each in self._answers])
                yield openai.line(self._head | {"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def _line(self, number: int, event: Event | Located) -> bytes | None:
        match event:
            case Text(text):
                return self._chunk(number, {"content": text})
            case Thinking(text):
                return self._chunk(number, {"reasoning_content": text})
            case Likely():
                self._likely[number].append(event)
            case CallStarted(index, id, name):
                return self._chunk(number, _called(index, id=id, type="function", name=name, arguments=""))
            case CallArguments(index, text):
                return self._chunk(number, _called(index, arguments=text))
            case Located():
                return self._chunk(number, _places(event))
            case Progress() if self._options.include_progress:
                return openai.line(self._head | {"choices": [], "progress": asdict(event)})
            case Finished():
                answer = self._answers[number]
                read, reason = _read(self._asked, answer), openai.finish_reason(answer)
                return self._chunk(number, read, finish_reason=reason, timings=asdict(event.timings))
        return None

    def _chunk(self, number: int, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        likely, self._likely[number] = self._likely[number], []
        logprobs = {"content": openai.logprobs_of(likely), "refusal": None} if likely else None
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._options.include_usage else {}
        return openai.line(self._head | {"choices": [choice]} | usage | more)


def _called(index: int, *, name: str | None = None, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, **more, "function": function}]}
