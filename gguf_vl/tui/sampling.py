"""What decides how an answer's tokens are chosen: each value in force, and who said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gguf_vl.chat.talk import sampling
from gguf_vl.chat.turns import Chat
from gguf_vl.config import Settings

if TYPE_CHECKING:
    from gguf_vl.runtime.models import Installed
    from gguf_vl.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Field:
    """A field of `Sampling` that a person may set: a number of that type from `low` to `high`, both included."""

    name: str
    type: type[int] | type[float]
    low: float
    high: float
    help: str
    unset: str = ""
    """What None means."""

    def read(self, text: str) -> int | float | None:
        """The number that was typed; None where it is none that may be."""
        try:
            number = self.type(text)
        except ValueError:
            return None
        return number if self.low <= number <= self.high else None

    @property
    def expected(self) -> str:
        """What may be typed."""
        kind = "a whole number" if self.type is int else "a number"
        return f"{kind} from {self.low:g} to {int(self.high) if self.type is int else f'{self.high:g}'}"


FIELDS = (
    Field("temperature", float, 0, 2, "How freely the next token is drawn; 0 always takes the likeliest."),
    Field("top_k", int, 0, 1_000_000, "Draw from this many of the likeliest tokens; 0 is all."),
    Field("top_p", float, 0, 1, "Draw from the likeliest tokens that have this share of the probability; 1 is all."),
    Field("min_p", float, 0, 1, "Leave out tokens less likely than this share of the likeliest; 0 leaves none out."),
    Field("presence_penalty", float, -10, 10, "Makes what the answer has said already less likely; 0 is none."),
    Field("repetition_penalty", float, 0.01, 10, "Divides the likelihood of what was said already; 1 is none."),
    Field("seed", int, 0, 2**32 - 2, "Makes drawn answers repeatable.", "another each time"),
    Field("max_tokens", int, 1, 1_048_576, "Most tokens of one answer.", "as the context has room"),
)
"""In the order to show them in."""


@dataclass(frozen=True, slots=True)
class InForce:
    """Each field's value, and whence: "this chat", "task", "your setting", "recommended" or "as temperature is 0"."""

    values: Mapping[str, int | float | None]
    origins: Mapping[str, str]


def in_force(chat: Chat, task: Task | None, settings: Settings, installed: Installed, *, pictures: bool) -> InForce:
    """What the next answer of a chat, asked with pictures or without, is drawn with."""
    of_task = task.sampling if task else {}
    told = sampling(installed, settings, {**of_task, **chat.sampling}, pictures=pictures)
    recommended = installed.sampling(Settings(), pictures=pictures)
    values = {field.name: getattr(told, field.name) for field in FIELDS}
    origins = {}
    for name, value in values.items():
        if name in chat.sampling:
            origins[name] = "this chat"
        elif name in of_task:
            origins[name] = "task"
        elif getattr(settings, name, None) is not None:
            origins[name] = "your setting"
        else:
            origins[name] = "recommended" if value == getattr(recommended, name) else "as temperature is 0"
    return InForce(values, origins)
