"""Pictures and videos of the question being written: brought in, counted, and encoded while it is still being typed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gguf_vl.chat import talk
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Attachment, Chat
from gguf_vl.config import Settings
from gguf_vl.errors import GgufVlError
from gguf_vl.media.children import in_thread
from gguf_vl.tui.background import begin
from gguf_vl.tui.model import Model
from gguf_vl.types import Message, PictureLimits, Progress

if TYPE_CHECKING:
    from gguf_vl.tui.widgets.chips import Chip

FindChip = Callable[[int], "Chip | None"]
"""The chip of an attachment, None where it is not shown any more."""


async def attach(history: History, chat_id: int, source: str | Path | bytes, name: str, *, offline: bool) -> Attachment:
    """A picture, or a video's file, in the draft of a chat. Raises what `media.given` and `attach_video` raise: nothing
    is attached then.
    """
    from gguf_vl.media.given import given
    from gguf_vl.media.video import is_video
    from gguf_vl.tui.clips import attach_video

    if isinstance(source, Path) and await asyncio.to_thread(is_video, source):
        return await in_thread(attach_video, history, chat_id, source)
    found = await in_thread(given, source, name=name, offline=offline)
    return await asyncio.to_thread(history.attach, chat_id, found.data, found.name, found.size)


class Preparing:
    """Encodes the pictures of drafts ahead of their questions, and has their chips tell how far that is."""

    def __init__(self, history: History, model: Model, settings: Callable[[], Settings], chip: FindChip) -> None:
        self._history = history
        self._model = model
        self._settings = settings
        self._chip = chip
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def begin(self, chat_id: int, attachment: Attachment) -> None:
        """Count and encode a picture, once the model is there."""
        if attachment.id not in self._tasks:
            self._tasks[attachment.id] = begin(self._prepare(chat_id, attachment))

    def stop(self, attachment_id: int | None = None) -> None:
        """Stop for a picture that was taken back, or for all."""
        for id in [attachment_id] if attachment_id is not None else list(self._tasks):
            if task := self._tasks.pop(id, None):
                task.cancel()

    async def _prepare(self, chat_id: int, attachment: Attachment) -> None:
        try:
            async with self._model.using() as made:
                chat = self._history.chat(chat_id)
                limits = talk.detailed(chat, self._settings(), made.engine.settings.limits)
                room = talk.Room(made.engine.settings.limits, made.engine.settings.n_ctx)
                together = [each for each in self._history.draft(chat_id).attachments if each.id <= attachment.id]
                cost = await in_thread(_cost, together, limits, room)
                if chip := self._chip(attachment.id):
                    chip.costs(*cost)
                if not made.installed.local.mmproj:
                    self._told(attachment, f"{made.installed.name} cannot see pictures")
                    return
                told = await in_thread(self._conversation, chat, together, limits, room)
                await made.engine.prepare(*told, on_progress=lambda progress: self._at(attachment, progress))
                self._at(attachment, Progress("encode", 1, 1))
        except GgufVlError as error:
            self._told(attachment, error.what)

    def _conversation(
        self, chat: Chat, together: Sequence[Attachment], limits: PictureLimits, room: talk.Room
    ) -> tuple[Message, ...]:
        """What is known of the question: the turns before it, and its pictures as far as this one."""
        settings = self._settings()
        system = talk.system_prompt(chat, settings)
        before = talk.messages(self._history.turns(chat.id), settings, room, system=system, model=self._model.name)
        return (*before, Message("user", tuple(talk.seen(together, limits, room.n_ctx))))

    def _at(self, attachment: Attachment, progress: Progress) -> None:
        if progress.stage == "encode" and (chip := self._chip(attachment.id)):
            chip.encoded(progress.done, progress.total)

    def _told(self, attachment: Attachment, line: str) -> None:
        if chip := self._chip(attachment.id):
            chip.told(line)


def _cost(together: Sequence[Attachment], limits: PictureLimits, room: talk.Room) -> tuple[int, int | None]:
    """(image tokens, frames of a video) of the last of these."""
    last = together[-1]
    if last.seconds is None:
        return talk.look(last, limits).tokens, None
    clip = talk.watch(last, limits, room.n_ctx, sum(each.seconds is not None for each in together))
    return sum(step.picture.tokens for step in clip.steps), sum(len(step.times) for step in clip.steps)
