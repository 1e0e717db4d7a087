"""Answers under way: one at a time in each chat, whoever looks at it, and the questions that wait behind it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gguf_vl.chat import talk
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Turn
from gguf_vl.config import Settings
from gguf_vl.errors import GgufVlError, WorkerDied
from gguf_vl.tui.background import begin
from gguf_vl.tui.model import Made, Model
from gguf_vl.types import Event, Request

if TYPE_CHECKING:
    from gguf_vl.engine.client import Engine


@dataclass(frozen=True, slots=True)
class Began:
    """An answer begins, or goes on; nothing of it has come yet."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Came:
    """An event of an answer."""

    turn_id: int
    event: Event


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer is over, however: `turn` is how it stands in the history, or its question where it was never begun.
    `failure` is why it failed, if it did.
    """

    turn: Turn
    failure: GgufVlError | None = None


News = Began | Came | Ended
Report = Callable[[int, News], None]
"""Gets a chat's id, and what happens in it."""


@dataclass(slots=True)
class _Line:
    """What is to be answered in one chat, in order: questions, or answers to be continued. `now` is the answer under
    way, and `asked` its request once the engine has it.
    """

    waiting: deque[int] = field(default_factory=deque)
    work: asyncio.Task[None] | None = None
    now: asyncio.Task[None] | None = None
    asked: tuple[Engine, Request] | None = None


class Answers:
    """Begins, stops and reports answers. All of them are in the history as they come; `report` only draws them."""

    def __init__(self, history: History, model: Model, settings: Callable[[], Settings], report: Report) -> None:
        self._history = history
        self._model = model
        self._settings = settings
        self._report = report
        self._lines: dict[int, _Line] = {}

    def begin(self, turn: Turn) -> None:
        """Answer a question, or continue an answer, as soon as the chat's answers before it are over."""
        line = self._lines.setdefault(turn.chat_id, _Line())
        line.waiting.append(turn.id)
        if line.work is None:
            line.work = begin(self._work(turn.chat_id, line))

    def is_running(self, chat_id: int) -> bool:
        """Whether an answer is under way in that chat, be it that its model is still loading."""
        return chat_id in self._lines

    def is_waiting(self, turn_id: int) -> bool:
        """Whether a question waits behind an answer."""
        return any(turn_id in line.waiting for line in self._lines.values())

    def forget(self, turn_id: int) -> None:
        """Do not answer a question that waits."""
        for line in self._lines.values():
            if turn_id in line.waiting:
                line.waiting.remove(turn_id)

    async def stop(self, chat_id: int) -> bool:
        """End the answer under way; what was written stays, and what waits behind it goes on. False for none."""
        line = self._lines.get(chat_id)
        if line is None or line.now is None:
            return False
        if line.asked:
            engine, request = line.asked
            await engine.cancel(request.id)
        else:
            line.now.cancel()  # it waits for the model, or for its pictures
        return True

    async def close(self) -> None:
        """End them all."""
        tasks = [task for line in self._lines.values() for task in (line.work, line.now) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, chat_id: int, line: _Line) -> None:
        try:
            while line.waiting:
                line.now = begin(self._answer(line, line.waiting.popleft()))
                await asyncio.wait([line.now])
        finally:
            del self._lines[chat_id]

    async def _answer(self, line: _Line, turn_id: int) -> None:
        turn = self._history.turn(turn_id)
        failure: GgufVlError | None = None
        try:
            async with self._model.using() as made:
                turn = self._begun(turn, made)
                await self._write(line, turn, made)
        except GgufVlError as error:
            failure = error
        finally:
            line.asked = None
            turn = self._history.turn(turn.id)
            if turn.state == "writing":  # the engine was never asked
                self._history.finish(turn.id, "failed" if failure else "stopped", error=failure.what if failure else "")
                turn = self._history.turn(turn.id)
            self._report(turn.chat_id, Ended(turn, failure))
        if isinstance(failure, WorkerDied):
            self._model.load()

    def _begun(self, turn: Turn, made: Made) -> Turn:
        if turn.role == "user":
            turn = self._history.begin_answer(turn.id, made.installed.name)
        else:
            self._history.resume_answer(turn.id)
        self._report(turn.chat_id, Began(turn))
        return turn

    async def _write(self, line: _Line, turn: Turn, made: Made) -> None:
        chat, path = self._history.chat(turn.chat_id), self._history.path(turn.id)
        limits = made.engine.settings.limits
        request = await asyncio.to_thread(talk.request, chat, path, made.installed, self._settings(), limits)
        line.asked = made.engine, request
        async for event in talk.answer(self._history, made.engine, request, turn.id):
            self._report(turn.chat_id, Came(turn.id, event))
