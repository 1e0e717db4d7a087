"""The frozen dataclasses that rooms pass to each other. No behaviour beyond what a value knows of itself."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
KvType = Literal["f16", "q8_0", "q4_0"]
Detail = Literal["low", "auto", "high"]
Stage = Literal["load", "encode", "prefill"]
FinishReason = Literal["stop", "length", "cancelled"]

PATCH = 32
"""Pixels of a picture's side that one image token covers (patch 16 × spatial merge 2, Qwen3-VL)."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How many image tokens one picture may take."""

    min_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture exactly as the model will see it.

    `rgb` is [height, width, 3] uint8 in row order; both sides are multiples of `PATCH`. `original_size` is
    (width, height) in pixels after EXIF orientation, the frame that boxes are mapped back to. `digest` is the
    SHA-256 of size and pixels: two pictures with one digest give the same embeddings.
    """

    rgb: bytes = field(repr=False)
    width: int
    height: int
    original_size: tuple[int, int]
    digest: str

    @property
    def tokens(self) -> int:
        """Image tokens (cells of the KV cache) this picture takes."""
        return (self.width // PATCH) * (self.height // PATCH)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` holds text and pictures in the order the model reads them."""

    role: Role
    content: tuple[str | Picture, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    temperature 0 is greedy. `top_k` 0 and `top_p` 1 switch those off. The penalties count the tokens of the answer,
    not of the prompt. `seed` None draws a new one for every request. `max_tokens` None means as far as the context
    reaches.
    """

    temperature: float = 0.7
    top_k: int = 20
    top_p: float = 0.8
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to be continued by the model. `id` names it to `Engine.cancel` and in logs."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Progress:
    """Work before the first token: image tokens encoded or prompt tokens prefilled so far."""

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
class Usage:
    """Tokens of one request. `image_tokens` are part of `prompt_tokens`."""

    prompt_tokens: int
    image_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one request's time went.

    `encode_s` and `prefill_s` are seconds for pictures and prompt; `ttft_s` is seconds from the request's arrival at
    the engine to its first token; `decode_tps` is tokens per second after the first, None with fewer than two.
    """

    encode_s: float
    prefill_s: float
    ttft_s: float
    decode_tps: float | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every answer that did not fail."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings


Event = Progress | Text | Thinking | Finished


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Everything the worker needs to load a model and hold it.

    `n_ctx` and `n_batch` are tokens; `n_gpu_layers` -1 offloads all layers; `n_threads` serve encoding and decoding;
    `limits` are the pictures' image tokens that are accepted.
    """

    model: Path
    mmproj: Path | None
    limits: PictureLimits
    n_ctx: int = 8192
    n_batch: int = 512
    n_gpu_layers: int = -1
    kv_type: KvType = "f16"
    n_threads: int = 1


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the worker says of the model it has loaded. `n_ctx` is tokens, `load_s` seconds."""

    n_ctx: int
    sees_pictures: bool
    load_s: float


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine's counters since its worker started. `embedding_bytes` is memory held by kept picture embeddings."""

    requests: int
    running: bool
    pictures_encoded: int
    pictures_reused: int
    embedding_bytes: int
