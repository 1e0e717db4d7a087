"""What comes of a request: progress, the answer piece by piece, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["load", "queue", "encode", "prefill"]
FinishReason = Literal["stop", "length", "loop", "cancelled"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Work before the first token: image tokens encoded or prompt tokens prefilled so far.

    In the stage "queue", `done` is the place in the queue of `total` requests, 1 for the next.
    """

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer: whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of a Thinking model's reasoning, without its `<think>` tags."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The model calls a function. `index` counts the calls of an answer from 0, `id` is new for each."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next piece of the JSON text of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over. `complete` says that all pieces of its arguments together are a JSON object."""

    index: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Likely:
    """A token of the answer as (its bytes, natural logarithm of its probability), and the likeliest at its place."""

    token: tuple[bytes, float]
    others: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `image_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    image_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text of `n_tokens` as one vector of length 1: the hidden state behind its last token, [n_embd]."""

    values: tuple[float, ...]
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one request's time went.

    `encode_s` and `prefill_s` are seconds for pictures and prompt; `ttft_s` is seconds from the request's arrival at
    the engine to its first token; `decode_tps` is tokens per second after the first, None with fewer than two.
    `queue_s` is seconds until it was begun, `tokens_reused` how much of the prompt was computed before.
    """

    encode_s: float
    prefill_s: float
    ttft_s: float
    decode_tps: float | None
    queue_s: float = 0.0
    tokens_reused: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every answer that did not fail.

    `dropped_messages` is how many of the request's oldest messages the model has not seen, for want of context;
    `stopped_by` is the stop string that ended the answer, empty where none did.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    dropped_messages: int = 0
    stopped_by: str = ""


CallEvent = CallStarted | CallArguments | CallEnded
Event = Progress | Text | Thinking | CallEvent | Likely | Finished
