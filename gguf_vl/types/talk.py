"""What people and models say to each other: messages, pictures, and a request for an answer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Detail = Literal["low", "auto", "high"]
ToolChoice = Literal["none", "auto", "required"] | str
"""No call, the model's own decision, at least one call, or one call of the tool of that name."""
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

    `rgb` is [frames, height, width, 3] uint8 in row order; both sides are multiples of `PATCH`. Two `frames` follow
    each other in a video, and become one step of its time, of as many tokens as a single one (Qwen3-VL's temporal
    patch). `original_size` is (width, height) in pixels after EXIF orientation, the frame that boxes are mapped back
    to. `digest` is the SHA-256 of size and pixels: two pictures with one digest give the same embeddings.
    """

    rgb: bytes = field(repr=False)
    width: int
    height: int
    original_size: tuple[int, int]
    digest: str
    frames: int = 1

    @property
    def tokens(self) -> int:
        """Image tokens (cells of the KV cache) this picture takes."""
        return (self.width // PATCH) * (self.height // PATCH)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, as the events of an answer told it. `arguments` is their JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` holds text and pictures in the order the model reads them.

    `calls` are those that an assistant's turn ends with. What they gave back follows as turns of the role `tool`, in
    the same order.
    """

    role: Role
    content: tuple[str | Picture, ...]
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    temperature 0 is greedy. `top_k` 0 and `top_p` 1 switch those off. The penalties count the tokens of the answer,
    not of the prompt. `logit_bias` is added to the logits of tokens, by their ids. `seed` None draws a new one for
    every request. `max_tokens` None means as far as the context reaches.
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
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments, None where it has none."""

    name: str
    parameters: Any = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to be continued by the model. `id` names it to `Engine.cancel` and in logs.

    One that is too long for the context is refused, or with `drop_oldest` answered without its oldest turns. An answer
    may be held to a `grammar` (GBNF) or a JSON `schema`, and may call `tools`: none, as the model likes, at least one,
    or that one; one call at most where `parallel_tool_calls` is false. `n_likely` asks for the likelihood of each token
    and of so many others, 20 at most. `thinking_budget` is the most tokens of reasoning. With `loop_guard` an answer
    that only repeats itself ends.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    drop_oldest: bool = False
    grammar: str | None = None
    schema: Any = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    n_likely: int | None = None
    thinking_budget: int | None = None
    loop_guard: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
