"""Answers under way: one at a time in each chat, whoever looks at it, and the questions that wait behind it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gguf_vl.chat import talk
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Chat, State, Turn
from gguf_vl.config import Settings
from gguf_vl.errors import ChatNotFound, GgufVlError, WorkerDied
from gguf_vl.media.children import in_thread
from gguf_vl.tui.background import begin
from gguf_vl.tui.model import Made, Model
from gguf_vl.types import Event, Request

if TYPE_CHECKING:
    from gguf_vl.engine.client import Engine


@dataclass(frozen=True, slots=True)
class Began:
    """There is an answer to be written, or to be gone on with; with `waits`, behind another one."""

    turn: Turn
    waits: bool


@dataclass(frozen=True, slots=True)
class Came:
    """An event of an answer."""

    turn_id: int
    event: Event


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer is over, however. `turn` is how it stands in the history, `failure` why it failed, if it did."""

    turn: Turn
    failure: GgufVlError | None = None


News = Began | Came | Ended
Report = Callable[[int, News], None]
"""Gets a chat's id, and what happens in it."""


@dataclass(slots=True)
class _Line:
    """The answers to be written in one chat, in order, each with the chat's settings when it was asked for. `now` is
    the one under way, `task` writes it, and `asked` is its request once the engine has it.
    """

    waiting: deque[tuple[Turn, Chat]] = field(default_factory=deque)
    work: asyncio.Task[None] | None = None
    now: int | None = None
    task: asyncio.Task[None] | None = None
    asked: tuple[Engine, Request] | None = None


class Answers:
    """Begins, stops and reports answers. All of them are in the history as they come; `report` only draws them."""

    def __init__(self, history: History, model: Model, settings: Callable[[], Settings], report: Report) -> None:
        self._history = history
        self._model = model
        self._settings = settings
        self._report = report
        self._lines: dict[int, _Line] = {}

    def begin(self, turn: Turn) -> Turn:
        """Answer a question, or continue an answer, as soon as the chat's answers before it are over. -> the answer.

        It is in the history from now on, so that what is asked meanwhile comes behind it.
        """
        if turn.role == "user":
            turn = self._history.begin_answer(turn.id, self._model.name)
        else:
            self._history.resume_answer(turn.id)
            turn = self._history.turn(turn.id)
        line = self._lines.setdefault(turn.chat_id, _Line())
        line.waiting.append((turn, self._history.chat(turn.chat_id)))
        self._report(turn.chat_id, Began(turn, waits=line.work is not None))
        if line.work is None:
            line.work = begin(self._work(turn.chat_id, line))
        return turn

    def is_running(self, chat_id: int) -> bool:
        """Whether an answer is under way in that chat, be it that its model is still loading."""
        line = self._lines.get(chat_id)
        return line is not None and (line.now is not None or bool(line.waiting))

    def is_waiting(self, turn_id: int) -> bool:
        """Whether an answer waits behind another one."""
        return any(turn_id == turn.id for line in self._lines.values() for turn, _ in line.waiting)

    async def stop(self, chat_id: int) -> bool:
        """End the answer under way; what was written stays, and what waits behind it goes on. False for none."""
        line = self._lines.get(chat_id)
        if line is None or line.task is None or line.now is None:
            return False
        if line.asked:
            engine, request = line.asked
            await engine.cancel(request.id)
        else:
            line.task.cancel()  # it waits for the model, or for its pictures
        return True

    async def abandon(self, chat_id: int, turn_ids: Collection[int] | None = None) -> None:
        """Write none of these answers in a chat, by default none at all: they, or all of it, are being deleted."""
        if line := self._lines.get(chat_id):
            kept = [each for each in line.waiting if turn_ids is not None and each[0].id not in turn_ids]
            dropped = [turn for turn, _ in line.waiting if turn not in [turn for turn, _ in kept]]
            line.waiting = deque(kept)
            for turn in dropped:
                self._end(turn, None)
            if turn_ids is None or line.now in turn_ids:
                await self.stop(chat_id)

    async def close(self) -> None:
        """End them all."""
        tasks = [task for line in self._lines.values() for task in (line.work, line.task) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, chat_id: int, line: _Line) -> None:
        try:
            while line.waiting:
                turn, chat = line.waiting.popleft()
                line.now, line.task = turn.id, begin(self._answer(line, turn, chat))
                await asyncio.wait([line.task])
        finally:
            del self._lines[chat_id]

    async def _answer(self, line: _Line, turn: Turn, chat: Chat) -> None:
        failure: GgufVlError | None = None
        try:
            async with self._model.using() as made:
                self._history.set_answerer(turn.id, made.installed.name)
                self._report(chat.id, Began(self._history.turn(turn.id), waits=False))
                await self._write(line, turn, chat, made)
        except GgufVlError as error:
            failure = error
        finally:
            line.asked = line.now = None
            self._end(turn, failure)
        if isinstance(failure, WorkerDied):
            self._model.load()

    async def _write(self, line: _Line, turn: Turn, chat: Chat, made: Made) -> None:
        path, room = self._history.path(turn.id), talk.Room(made.engine.settings.limits, made.engine.settings.n_ctx)
        request = await in_thread(talk.request, chat, path, made.installed, self._settings(), room)
        if isinstance(request, Request):  # of several there is none to cancel: their task is
            line.asked = made.engine, request
        async for event in talk.answer(self._history, made.engine, request, turn.id):
            self._report(turn.chat_id, Came(turn.id, event))

    def _end(self, turn: Turn, failure: GgufVlError | None) -> None:
        """Report how an answer ended, also where the history cannot be told, or has deleted it."""
        state: State = "failed" if failure else "stopped"
        error = failure.what if failure else ""
        try:
            ended = self._history.turn(turn.id)
            if ended.state == "writing":  # the engine was never asked
                self._history.finish(turn.id, state, error=error)
                ended = self._history.turn(turn.id)
        except ChatNotFound:
            ended, failure = replace(turn, state="stopped"), None
        except GgufVlError as unwritten:
            failure = failure or unwritten
            ended = replace(turn, state="failed", error=failure.what)
        self._report(turn.chat_id, Ended(ended, failure))
