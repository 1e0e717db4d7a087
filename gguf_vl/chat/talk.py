"""From a path of turns to what the engine is asked, and from its events back into the history, as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_vl.chat.frames import chosen_in
from gguf_vl.chat.history import History
from gguf_vl.chat.presets import read, task_of
from gguf_vl.chat.turns import Attachment, Chat, State, Turn
from gguf_vl.errors import GgufVlError, InvalidPicture
from gguf_vl.tasks import asking, by_frame
from gguf_vl.tasks.by_frame import FrameByFrame
from gguf_vl.tasks.task import Task, free
from gguf_vl.types import Event, Finished, Message, Picture, PictureLimits, Request, Sampling, Text, Thinking

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.engine.client import Engine
    from gguf_vl.media.video import Clip
    from gguf_vl.runtime.models import Installed

DECODED = 8
"""Pictures that are kept as the model sees them: at most 12 MiB each (4,096 image tokens of 32 × 32 pixels)."""


@dataclass(frozen=True, slots=True)
class Room:
    """What an engine takes: the image tokens of one picture, and `n_ctx` tokens in all."""

    limits: PictureLimits
    n_ctx: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question asks for: a task with its parameters, and words behind it. In words of a person's own it is that
    of no name, with what the task it began with says of sampling and detail.
    """

    task: Task
    given: Mapping[str, str]
    extra: str

    def words(self, model: str) -> str:
        """The question as the model of that name is asked it."""
        return asking.prompt(self.task, self.given, model, extra=self.extra) if self.task.name else self.extra


def asked_by(turn: Turn) -> Asked:
    """What a question asks for. Raises `UsageError` where its task is the person's own, and the file is broken."""
    task = task_of(turn.task)
    if task and (found := read(task, turn.text, turn.task or "")):
        return Asked(task, *found)
    own = replace(free(), sampling=task.sampling, detail=task.detail, min_tokens=task.min_tokens) if task else free()
    return Asked(own, {}, turn.text)


def messages(
    turns: Sequence[Turn], settings: Settings, room: Room, *, system: str = "", model: str = ""
) -> tuple[Message, ...]:
    """What the model reads of a conversation, its pictures decoded as its questions' tasks want them. Blocking.

    Thoughts are left out, as Qwen's templates do for turns that are over; so are answers that failed before a word.
    A question in its task's words is put in those that are best for the `model` of that name. In the place of an
    earlier turn's picture whose file is gone stands a line that says so. Raises `InvalidPicture` for one of the last
    question, and for a file that is damaged.
    """
    told = [Message("system", (system,))] if system else []
    last = max((turn.id for turn in turns if turn.role == "user"), default=0)
    for turn in turns:
        content, text = list[str | Picture](), turn.text
        if turn.role == "user":
            asked = asked_by(turn)
            limits, text = asking.limits(asked.task, settings, room.limits), asked.words(model)
            content = seen(turn.attachments, limits, room.n_ctx, may_miss=turn.id != last)
        if text:
            content.append(text)
        if content or turn.role == "user":
            told.append(Message(turn.role, tuple(content) or ("",)))
    return tuple(told)


def seen(
    attachments: Sequence[Attachment], limits: PictureLimits, n_ctx: int, *, may_miss: bool = False
) -> list[str | Picture]:
    """Pictures as the model sees them, and of videos the frames with their times. Raises `InvalidPicture`, also for a
    file that is gone, unless it `may_miss`: then a line says so.
    """
    n_videos = sum(each.seconds is not None for each in attachments)
    content = list[str | Picture]()
    for each in attachments:
        if may_miss and not each.path.exists():
            content.append(f"[{each.name} is not there any more]\n")
        elif each.seconds is None:
            content.append(look(each, limits))
        else:
            for step in watch(each, limits, n_ctx, n_videos).steps:
                content += [step.caption, step.picture]
    return content


def look(attachment: Attachment, limits: PictureLimits) -> Picture:
    """A picture as the model sees it. Raises `InvalidPicture`."""
    _check_there(attachment)
    return _decoded(attachment.path, limits)


def watch(attachment: Attachment, limits: PictureLimits, n_ctx: int, n_videos: int = 1) -> Clip:
    """A video as the model sees it, one of so many that share half of the context, whatever is asked and was said: so
    it is the same when its question is put as while that is typed. Raises `InvalidPicture`.
    """
    _check_there(attachment)
    return _watched(attachment.path, attachment.name, limits, n_ctx // 2 // n_videos)


def _check_there(attachment: Attachment) -> None:
    if not attachment.path.exists():
        what = f"The file of {attachment.name} is not there any more."
        raise InvalidPicture(what, "Attach the same file again: then this question has it back too.")


@lru_cache(DECODED)
def _decoded(path: Path, limits: PictureLimits) -> Picture:  # its name is its content's hash
    from gguf_vl.media.pictures import load_picture

    return load_picture(path, limits)


@lru_cache(1)
def _watched(path: Path, name: str, limits: PictureLimits, budget: int) -> Clip:
    from gguf_vl.media.video import load_clip

    return replace(load_clip(path, limits, budget, chosen_in(name)), name=name)


def detailed(chat: Chat, settings: Settings, limits: PictureLimits) -> PictureLimits:
    """The image tokens that a picture of the next question may take, of those the engine takes. Raises as `task_of`."""
    return asking.limits(task_of(chat.preset) or free(), settings, limits)


def sampling(installed: Installed, settings: Settings, chosen: Mapping[str, Any], *, pictures: bool) -> Sampling:
    """How tokens are chosen: as chosen for the chat, over the settings, over what is recommended for the model."""
    told = replace(installed.sampling(settings, pictures=pictures), **chosen)
    if told.temperature == 0:
        no_penalties: dict[str, Any] = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
        told = replace(told, **{name: value for name, value in no_penalties.items() if name not in chosen})
    return told


def request(
    chat: Chat, turns: Sequence[Turn], installed: Installed, settings: Settings, room: Room
) -> Request | FrameByFrame:
    """What the engine is asked for the answer to these turns; the last one, where it is the model's, is continued.

    A question in its task's words is held to the task's schema, and asked frame by frame of a model that needs it.
    Blocking: pictures are decoded. Raises `InvalidPicture`, and `UsageError` as `asked_by` and `FrameByFrame`.
    """
    question = next((turn for turn in reversed(turns) if turn.role == "user"), None)
    asked = asked_by(question) if question else Asked(free(), {}, "")
    pictures = any(turn.attachments for turn in turns)
    last = next((turn for turn in reversed(turns) if turn.text or turn.role == "user"), None)
    begins = question is not None and last is question
    if question and begins and installed.name in asked.task.by_frame and _has_video(question):
        return _by_frame(chat, question, asked, installed, settings, room)
    system = chat.system or asking.rules_of(asked.task, asked.given) or system_prompt(chat, settings)
    told = messages(turns, settings, room, system=system, model=installed.name)
    chosen: dict[str, Any] = {**asked.task.sampling, **chat.sampling}
    held = asking.held(asked.task, asked.given, installed.name) if begins and pictures else {}
    return Request(told, sampling(installed, settings, chosen, pictures=pictures), drop_oldest=True, **held)


def _has_video(turn: Turn) -> bool:
    return any(each.seconds is not None for each in turn.attachments)


def _by_frame(
    chat: Chat, question: Turn, asked: Asked, installed: Installed, settings: Settings, room: Room
) -> FrameByFrame:
    """Each frame by itself is all that the context must hold."""
    from gguf_vl.media.shown import room as left_for_pictures
    from gguf_vl.media.video import MOST_TOKENS, load_clip

    limits = asking.limits(asked.task, settings, room.limits)
    left = left_for_pictures(room.n_ctx, (asked.extra, system_prompt(chat, settings)), settings.max_tokens)
    limits = PictureLimits(limits.min_tokens, max(limits.min_tokens, min(limits.max_tokens, left)))
    clips = []
    for each in question.attachments:
        if each.seconds is not None:
            _check_there(each)
            frames = replace(chosen_in(each.name), alone=True)
            clips.append(load_clip(each.path, limits, MOST_TOKENS, frames, name=each.name))
    how: dict[str, Any] = {"extra": asked.extra, "sampling": chat.sampling, "system": chat.system}
    return FrameByFrame(asked.task, clips, asked.given, installed, settings, **how)


def system_prompt(chat: Chat, settings: Settings) -> str:
    """The chat's own, else that of the settings; empty for none."""
    return (chat.system if chat.system is not None else settings.system) or ""


async def answer(history: History, engine: Engine, asked: Request | FrameByFrame, turn_id: int) -> AsyncIterator[Event]:
    """The events of an answer, each in the history before it is given on. However it ends, its turn says how.

    Raises what `Engine.generate` raises; what was written by then is kept.
    """
    error = ""
    end: Finished | None = None
    try:
        async with aclosing(by_frame.answer(engine, asked)) as events:
            async for event in events:
                match event:
                    case Text(text):
                        history.append(turn_id, text=text)
                    case Thinking(text):
                        history.append(turn_id, thinking=text)
                    case Finished():
                        end = event
                        _finish(history, turn_id, end)
                yield event
    except GgufVlError as failure:
        error = failure.what
        raise
    finally:
        if end is None:
            history.finish(turn_id, "failed" if error else "stopped", error=error)


def _finish(history: History, turn_id: int, end: Finished) -> None:
    state: State = "stopped" if end.finish_reason == "cancelled" else "done"
    history.finish(turn_id, state, finish_reason=end.finish_reason, usage=end.usage, timings=end.timings)
