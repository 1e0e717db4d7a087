"""What is noted of a request while it is answered, for the log and the counters: never what was asked or answered."""

from __future__ import annotations

import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from gguf_vl.errors import GgufVlError
from gguf_vl.types import Event, Finished, Progress


@dataclass(slots=True)
class Record:
    """One request. `began` is `time.perf_counter`'s, `first_token_s` the seconds from then to the first of an answer.

    `error` is what an answer failed with, also where its status was sent long before.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=time.perf_counter)
    status: int = 0
    is_whole: bool = False
    model: str = ""
    first_token_s: float | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    decode_tps: list[float] = field(default_factory=list)
    error: GgufVlError | None = None

    def take(self, event: Event) -> None:
        """Note an event of an answer."""
        match event:
            case Progress():
                pass
            case Finished(_, usage, timings):
                self.prompt_tokens = usage.prompt_tokens
                self.answer_tokens += usage.completion_tokens
                if timings.decode_tps is not None:
                    self.decode_tps.append(timings.decode_tps)
            case _ if self.first_token_s is None:
                self.first_token_s = time.perf_counter() - self.began


_current: ContextVar[Record | None] = ContextVar("record", default=None)


def begin(record: Record) -> None:
    """Make it the record of whatever this task does, and the tasks that it starts."""
    _current.set(record)


def current() -> Record:
    """The record of the request that this task works for; where it works for none, one that nobody reads."""
    return _current.get() or Record()
