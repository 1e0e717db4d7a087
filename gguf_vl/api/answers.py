"""What comes back: an answer, and one of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf_vl.api.pictures import PictureSource
from gguf_vl.errors import GgufVlError
from gguf_vl.media.boxes import Box, Point
from gguf_vl.types import FinishReason, Timings, Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; `str(answer)` is its text.

    `finish_reason` is "stop" for one that came to its end, "length" for one that was cut off, "loop" for one that only
    repeated itself, "cancelled" for one that was stopped. `boxes` and `points` are in pixels of the last picture,
    upright. `fields` is the JSON value of an answer that is held to a schema, None of any other; `rows` are those of a
    task's table, its head first. `thinking` is a Thinking model's reasoning. `dropped_messages` is how many of a chat's
    oldest messages the model has not seen, for want of context. `notes` are lines on which pages of a document or
    frames of a video it has not seen.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    fields: Any = None
    rows: tuple[tuple[str, ...], ...] = ()
    thinking: str = ""
    dropped_messages: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one picture of a batch, the `index`-th from 0: its `answer`, or the `error` in place of one."""

    index: int
    picture: PictureSource
    answer: Answer | None
    error: GgufVlError | None = None
