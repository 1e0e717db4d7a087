"""What a history holds, as values: a chat, its turns, their pictures, what is being typed, and what a search finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # all of `types` takes as long to import as the rest of a chat list
    from gguf_vl.types import Timings, Usage

Role = Literal["user", "assistant"]
State = Literal["done", "writing", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture or a video of a turn or a draft. The file at `path` is shared by all attachments of the same bytes.

    `digest` is the SHA-256, in hex, of the file's bytes as they were given; `name` what the person called it.
    `width` and `height` are pixels of the original, upright. `seconds` is how long a video is, None for a picture.
    """

    id: int
    digest: str
    name: str
    width: int
    height: int
    n_bytes: int
    path: Path
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A question or an answer.

    Turns of one chat with the same `parent_id` are branches: this is number `place`, from 1, `of` so many. Of them the
    one with the highest `chosen` is on the chat's path. A turn in the state "writing" has the text that has come so
    far. `created` is seconds since 1970. `task` is what a question, or that of an answer, began with: a task's
    name, and parameters as `/task` takes them.
    """

    id: int
    chat_id: int
    parent_id: int | None
    role: Role
    text: str
    thinking: str
    attachments: tuple[Attachment, ...]
    state: State
    finish_reason: str
    error: str
    model: str
    usage: Usage | None
    timings: Timings | None
    created: float
    place: int
    of: int
    chosen: int = 0
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation and its settings; None is what is set elsewhere.

    `title` is the person's where `titled`, else the beginning of the first question, else "New chat". `created` and
    `updated`, when its last turn came or changed, are seconds since 1970. `sampling` has the fields of `Sampling` that
    were set. `n_turns` counts the turns of all branches. `deleted` is when it was, seconds since 1970 too.
    """

    id: int
    title: str
    created: float
    updated: float
    pinned: bool
    system: str | None
    sampling: Mapping[str, object]
    model: str | None
    preset: str | None
    n_turns: int
    titled: bool = False
    deleted: float | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What is typed and attached, and not asked yet."""

    text: str
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn that a search found, or a chat by its title: then `turn_id` and `role` are None.

    `marks` are the places, [start, end) in `snippet`, of the words that were looked for.
    """

    chat: Chat
    turn_id: int | None
    role: Role | None
    snippet: str
    marks: tuple[tuple[int, int], ...]
