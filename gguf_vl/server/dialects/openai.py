"""What OpenAI's endpoints have in common: content, tools, formats, usage, likelihoods and errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gguf_vl.errors import UsageError
from gguf_vl.media.video import Frames
from gguf_vl.server.answers import Answer
from gguf_vl.server.asked import Shown, Turn, base64_or_named
from gguf_vl.server.failures import Failure
from gguf_vl.types import Call, Detail, Finished, Likely, Tool, ToolChoice

SEEDS = 2**32 - 1
"""llama.cpp takes the seeds below it."""
LEAST = -9999.0
"""The likelihood of what cannot be, whose logarithm JSON cannot write."""


class Body(BaseModel):
    """A body in which unknown fields are let pass, as OpenAI's servers and those that copy them do. Null stands for a
    field that is left out.
    """

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class StreamOptions(Body):
    """What a stream tells beside the answer. `include_progress` is ours: pictures, prompt and place in the queue."""

    include_usage: bool = False
    include_progress: bool = False


class Generation(Body):
    """What chats and older completions have in common."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=16)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=10)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-10, le=10)
    frequency_penalty: float | None = Field(None, ge=-10, le=10)
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None

    def sampling(self, **more: Any) -> dict[str, Any]:
        """The fields of `types.Sampling` that are given, `more` over them. Raises `UsageError`."""
        names = ("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty")
        given: dict[str, Any] = {name: getattr(self, name) for name in names} | {
            "seed": None if self.seed is None else self.seed % SEEDS,
            "stop": stops_of(self.stop) or None,
            "logit_bias": bias_of(self.logit_bias) or None,
        }
        return {name: value for name, value in (given | more).items() if value is not None}


class Function(Body):
    """A function that may be called."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = None
    parameters: dict[str, Any] | None = None


class FunctionTool(Body):
    """A tool; functions are the only kind there is here."""

    type: Literal["function"] = "function"
    function: Function


class Json(JSONResponse):
    """A response in ASCII: half a surrogate pair, which a client's JSON may hold, has no other encoding."""

    def render(self, content: Any) -> bytes:
        """Its bytes."""
        return to_json(content)


def to_json(data: Any) -> bytes:
    """JSON in ASCII. Clients cut streams into lines at U+0085, U+2028 and U+2029 too, were those in it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()


def line(data: Mapping[str, Any]) -> bytes:
    """A server-sent event without a name."""
    return b"data: " + to_json(data) + b"\n\n"


def named_line(name: str, data: Mapping[str, Any]) -> bytes:
    """A server-sent event of this name."""
    return f"event: {name}\n".encode() + line(data)


def error_body(failure: Failure) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    kind = "invalid_request_error" if failure.status < 500 else "server_error"
    return {"error": {"message": failure.message, "type": kind, "param": None, "code": failure.code}}


def detail_of(value: str | None) -> Detail | None:
    """OpenAI's `detail`. Raises `UsageError` for a word that is none."""
    match value:
        case None | "auto" | "original":
            return None if value is None else "auto"
        case "low" | "high":
            return value
    raise UsageError(f"A picture's detail is {value!r}.", "Take low, auto or high.")


def shown(picture: Any) -> Shown:
    """The picture of a part: `{"url": …, "detail": …}`, or the URL alone as some clients send it."""
    if isinstance(picture, str):
        return Shown(picture)
    if isinstance(picture, Mapping) and isinstance(picture.get("url"), str):
        return Shown(picture["url"], detail_of(picture.get("detail")))
    raise UsageError("An image_url has no URL.", 'Send {"image_url": {"url": "data:image/png;base64,…"}}.')


def document(part: Mapping[str, Any]) -> Shown:
    """The document, or any other file, of a part that has it as data (a `data:` URI or base64), by an uploaded one's id
    or a URL. `pages` ("2-5,8") and `detail` are ours.
    """
    pages, name = part.get("pages"), part.get("filename")
    sources = [part[key] for key in ("file_data", "file_id", "file_url") if isinstance(part.get(key), str)]
    if len(sources) != 1 or not isinstance(pages, str | None):
        raise UsageError(
            "A file has neither data nor an id, or more than one of them, or pages that are no text.",
            'Send {"file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,…"}}.',
        )
    detail = detail_of(part.get("detail"))
    return replace(base64_or_named(sources[0]), detail=detail, pages=pages, name=name if isinstance(name, str) else "")


def video(part: Mapping[str, Any], of: Any) -> Shown:
    """The video of a part, as servers of Qwen-VL take it: `{"url": …}` or the URL alone, with frames per second as
    `fps` beside or in it. Raises `UsageError` for what cannot be followed.
    """
    inner = of if isinstance(of, Mapping) else {"url": of}
    if not isinstance(inner.get("url"), str):
        raise UsageError("A video_url has no URL.", 'Send {"video_url": {"url": "data:video/mp4;base64,…"}}.')
    frames = frames_of(part.get("fps", inner.get("fps")))
    return Shown(inner["url"], detail_of(part.get("detail", inner.get("detail"))), frames=frames)


def frames_of(fps: Any) -> Frames | None:
    """So many frames a second of a video; None leaves it to us. Raises `UsageError` for what is no such number."""
    if fps is None:
        return None
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0.000_001 < fps <= 1000:
        raise UsageError("A video's fps is no number of frames a second.", 'Send "fps": 2, or less.')
    return Frames(every=1 / fps)


def text_and_pictures(content: Any) -> tuple[str | Shown, ...]:
    """A message's content: text, nothing, or parts. Raises `UsageError` for parts that cannot be shown to a model."""
    if content is None:
        return ()
    if isinstance(content, str):
        return (content,)
    if not isinstance(content, list):
        raise UsageError("The content of a message is neither text nor a list of parts.", 'Send "content": "…".')
    return tuple(_part(part) for part in content)


def _part(part: Any) -> str | Shown:
    match part:
        case str():
            return part
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": picture}:
            return shown(picture)
        case {"type": "input_image", "image_url": str(url)}:
            return Shown(url, detail_of(part.get("detail")))
        case {"type": "input_image", "file_id": str(id)}:
            return Shown(id, detail_of(part.get("detail")))
        case {"type": "file", "file": Mapping() as file}:
            return document(file)
        case {"type": "input_file"}:
            return document(part)
        case {"type": "video_url", "video_url": url}:
            return video(part, url)
        case {"type": "refusal", "refusal": str(text)}:
            return text
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise UsageError(f"A message has a part of the type {kind!r}.", "Text, image_url, file and video_url are taken.")


def tools_of(tools: Iterable[FunctionTool]) -> tuple[Tool, ...]:
    """The tools of a request."""
    return tuple(Tool(each.function.name, each.function.parameters, each.function.description or "") for each in tools)


def tool_choice_of(choice: Any) -> ToolChoice:
    """A choice of tools. Raises `UsageError` for one that does not exist here."""
    match choice:
        case None:
            return "auto"
        case "none" | "auto" | "required":
            return choice  # type: ignore[no-any-return]
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return name
    raise UsageError("The tool_choice is none that is known here.", "Take none, auto, required, or name one function.")


def schema_of(response_format: Any) -> Any:
    """The JSON schema that an answer is held to, None for any text."""
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            schema = response_format.get("schema") or {"type": "object"}
            if isinstance(schema, dict):
                return schema
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_schema", "schema": dict(schema)}:
            return schema
    raise UsageError("The response_format is none that is known here.", "Take text, json_object or json_schema.")


def bias_of(logit_bias: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    """`logit_bias` by token. Raises `UsageError` where a key is no token's id."""
    try:
        return tuple((int(token), bias) for token, bias in (logit_bias or {}).items())
    except ValueError as error:
        raise UsageError("A key of logit_bias is no token's id.", "Give ids as numbers, from /v1/tokenize.") from error


def stops_of(stop: Any) -> tuple[str, ...]:
    """Stop strings, one or several. Raises `UsageError` for anything else."""
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list | tuple) or not all(isinstance(each, str) for each in stops):
        raise UsageError("The field stop is neither a string nor a list of strings.", 'Send "stop": ["END"].')
    return tuple(stops)


def budget_of(given: int | None, effort: Any) -> int | None:
    """The tokens that may be thought: those given, none where no effort is wanted, else as the model likes."""
    return 0 if given is None and effort in ("none", "minimal") else given


def in_order(talk: Iterable[tuple[Turn, str | None]]) -> tuple[Turn, ...]:
    """The talk, each turn with the id of the call that it answers. What calls gave back is put in the order of the
    calls, the only thing that tells a chat template which belongs to which.
    """
    turns: list[Turn] = []
    order: dict[str, int] = {}
    results: list[tuple[int, Turn]] = []
    for turn, id in (*talk, (None, None)):
        if turn and turn.role == "tool":
            results.append((order.get(id or "", len(order)), turn))
            continue
        turns += [result for _, result in sorted(results, key=itemgetter(0))]
        results = []
        if turn:
            order = {call.id: place for place, call in enumerate(turn.calls)}
            turns.append(turn)
    return tuple(turns)


def arguments_of(call: Call) -> dict[str, Any]:
    """A call's arguments; none where they were cut off, are no object, or hold numbers that JSON cannot write."""
    try:
        arguments = json.loads(call.arguments)
        to_json(arguments)
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def finish_reason(answer: Answer) -> str:
    """OpenAI's word for why an answer ended; what was cut off for repeating itself was cut off."""
    if answer.finished.finish_reason in ("length", "loop"):
        return "length"
    return "tool_calls" if answer.calls else "stop"


def usage_of(ends: Sequence[Finished]) -> dict[str, Any]:
    """The tokens of a request and all its answers."""
    prompt, completion = ends[0].usage.prompt_tokens, sum(each.usage.completion_tokens for each in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": min(each.timings.tokens_reused for each in ends),
            "image_tokens": ends[0].usage.image_tokens,
        },
    }


def logprobs_of(likely: Sequence[Likely]) -> list[dict[str, Any]]:
    """Likelihoods of tokens, as chats and responses tell them."""
    return [_logprob(each.token) | {"top_logprobs": [_logprob(other) for other in each.others]} for each in likely]


def _logprob(token: tuple[bytes, float]) -> dict[str, Any]:
    text, logprob = token
    return {"token": text.decode("utf-8", "replace"), "logprob": max(logprob, LEAST), "bytes": list(text)}
