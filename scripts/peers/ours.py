"""Our engine as a peer, driven directly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.engine.client import Engine
from gguf_vl.engine.process import WorkerProcess
from gguf_vl.errors import GgufVlError
from gguf_vl.media.pictures import load_picture
from gguf_vl.types import EngineSettings, Finished, Message, Request, Sampling, Text, Thinking

from .talk import Answer, Talk, Turn, Unanswered


class Ours:
    """The engine, with its worker's process. Pictures are read and resized here, and that counts."""

    name = "gguf_vl"
    prepares = True

    def __init__(self, settings: EngineSettings, banned: Sequence[int]) -> None:
        self._settings = settings
        self._bias = tuple((token, -1e9) for token in banned)
        self._engine = Engine(settings)
        self._blocking: BlockingEngine | None = None

    @property
    def pid(self) -> int:
        """The worker's process."""
        assert isinstance(self._engine.connection, WorkerProcess)
        return self._engine.connection.pid

    def n_prompt(self, talk: Talk) -> int:
        """Tokens of a talk, as the model reads it."""
        assert self._blocking
        return self._blocking.count(Request(tuple(map(self._message, talk)))).prompt_tokens

    def __enter__(self) -> Self:
        self._blocking = BlockingEngine(self._engine).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._blocking
        self._blocking.__exit__(kind, error, tb)

    def _message(self, turn: Turn) -> Message:
        limits = self._settings.limits
        content = (load_picture(part, limits) if isinstance(part, bytes) else part for part in turn.content)
        return Message(turn.role, tuple(content))

    def prepare(self, talk: Talk) -> None:
        """Compute a talk ahead of its question."""
        assert self._blocking
        self._blocking.prepare(*map(self._message, talk))

    def ask(self, talk: Talk, n_tokens: int) -> Answer:
        """Answer greedily with exactly so many tokens. Raises `Unanswered`."""
        assert self._blocking
        began = time.perf_counter()
        messages = tuple(map(self._message, talk))
        loaded = time.perf_counter()
        sampling = Sampling(temperature=0.0, max_tokens=n_tokens, logit_bias=self._bias)
        text, stamps, done = "", [], None
        try:
            for event in self._blocking.generate(Request(messages, sampling, loop_guard=False)):
                if isinstance(event, Text | Thinking):
                    text += event.text
                    stamps.append(time.perf_counter())
                elif isinstance(event, Finished):
                    done = event
        except GgufVlError as error:
            raise Unanswered(f"{self.name}: {error}") from error
        ended = time.perf_counter()
        if done is None or done.finish_reason != "length" or not stamps:
            raise Unanswered(f"{self.name} ended an answer of {n_tokens} tokens with {done} after {text!r}")
        parts = {"read": loaded - began, "encode": done.timings.encode_s, "prefill": done.timings.prefill_s}
        parts["rest"] = stamps[0] - began - sum(parts.values())
        return Answer(text, done.usage.completion_tokens, began, tuple(stamps), ended, parts)
