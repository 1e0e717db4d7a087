"""What a client asks, in one form for all dialects: no model is chosen yet, no picture read, no default filled in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gguf_vl.media.video import Frames
from gguf_vl.tasks.task import Task
from gguf_vl.types import Call, Detail, Role, Tool, ToolChoice


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture, document or video as a client names it: a `data:` URI, an uploaded one's id, a URL, or its bytes. Of a
    document the `pages` are meant ("2-5,8"), all where that is None, of a video the `frames`. `name` is the client's.
    """

    source: str | bytes = field(repr=False)
    detail: Detail | None = None
    pages: str | None = None
    frames: Frames | None = None
    name: str = ""


def base64_or_named(picture: str) -> Shown:
    """A picture in bare base64, where it is not a `data:` URI, a URL or an uploaded one's id."""
    return Shown(picture if picture.startswith("pic_") or ":" in picture[:16] else f"data:;base64,{picture}")


@dataclass(frozen=True, slots=True)
class Turn:
    """A message, its pictures not read yet. With a `task` and its `given` parameters its words are added to the task's;
    what they are depends on the model.
    """

    role: Role
    content: tuple[str | Shown, ...]
    calls: tuple[Call, ...] = ()
    task: Task | None = None
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `sampling` holds the fields of `types.Sampling` that the client gave, `options` those of
    `types.Request`. `model` is empty where the client leaves it to the server. `n` answers are wanted, with
    `boxes` what they locate as data too.
    """

    model: str
    turns: tuple[Turn, ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    n: int = 1
    boxes: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def task(self) -> Task | None:
        """The task that is to be done now."""
        return self.turns[-1].task if self.turns else None
