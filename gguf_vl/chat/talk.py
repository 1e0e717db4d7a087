"""From a path of turns to what the engine is asked, and from its events back into the history, as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_vl.chat.history import History
from gguf_vl.chat.presets import as_task, preset
from gguf_vl.chat.turns import Attachment, Chat, State, Turn
from gguf_vl.errors import GgufVlError, InvalidPicture
from gguf_vl.tasks import asking
from gguf_vl.tasks.task import free
from gguf_vl.types import Event, Finished, Message, Picture, PictureLimits, Request, Sampling, Text, Thinking

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.engine.client import Engine
    from gguf_vl.runtime.models import Installed

DECODED = 8
"""Pictures that are kept as the model sees them: at most 12 MiB each (4,096 image tokens of 32 × 32 pixels)."""


def messages(turns: Sequence[Turn], limits: PictureLimits, *, system: str = "", model: str = "") -> tuple[Message, ...]:
    """What the model reads of a conversation, its pictures decoded to image tokens within `limits`. Blocking.

    Thoughts are left out, as Qwen's templates do for turns that are over; so are answers that failed before a word.
    A question in a preset's words is put in those that are best for the `model` of that name. In the place of an
    earlier turn's picture whose file is gone stands a line that says so. Raises `InvalidPicture` for one of the last
    question, and for a file that is damaged.
    """
    told = [Message("system", (system,))] if system else []
    asked = max((turn.id for turn in turns if turn.role == "user"), default=0)
    for turn in turns:
        pictures = tuple(
            look(each, limits) if turn.id == asked or each.path.exists() else f"[{each.name} is not there any more]\n"
            for each in turn.attachments
        )
        text = _in_words_for(model, turn.text) if turn.role == "user" else turn.text
        content: tuple[str | Picture, ...] = (*pictures, text) if text else pictures
        if content or turn.role == "user":
            told.append(Message(turn.role, content or ("",)))
    return tuple(told)


def _in_words_for(model: str, question: str) -> str:
    found = as_task(question)
    return asking.prompt(*found, model) if found else question


def look(attachment: Attachment, limits: PictureLimits) -> Picture:
    """A picture as the model sees it. Raises `InvalidPicture`."""
    if not attachment.path.exists():
        what = f"The file of {attachment.name} is not there any more."
        raise InvalidPicture(what, "Attach the picture again, or edit the question.")
    return _decoded(attachment.path, limits)


@lru_cache(DECODED)
def _decoded(path: Path, limits: PictureLimits) -> Picture:  # its name is its content's hash
    from gguf_vl.media.pictures import load_picture

    return load_picture(path, limits)


def detailed(chat: Chat, settings: Settings, limits: PictureLimits) -> PictureLimits:
    """The image tokens that one picture of a chat may take, of those the engine takes."""
    begun_with = preset(chat.preset)
    return asking.limits(begun_with.task if begun_with else free(), settings, limits)


def sampling(installed: Installed, settings: Settings, chosen: Mapping[str, Any], *, pictures: bool) -> Sampling:
    """How tokens are chosen: as chosen for the chat, over the settings, over what is recommended for the model."""
    told = replace(installed.sampling(settings, pictures=pictures), **chosen)
    if told.temperature == 0:
        no_penalties: dict[str, Any] = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
        told = replace(told, **{name: value for name, value in no_penalties.items() if name not in chosen})
    return told


def request(
    chat: Chat, turns: Sequence[Turn], installed: Installed, settings: Settings, limits: PictureLimits
) -> Request:
    """What the engine is asked for the answer to these turns; the last one, where it is the model's, is continued.

    A question in a preset's words is held to its task's schema. `limits` are the engine's. Blocking: pictures are
    decoded.
    """
    begun_with = preset(chat.preset)
    system = system_prompt(chat, settings)
    told = messages(turns, detailed(chat, settings, limits), system=system, model=installed.name)
    pictures = any(turn.attachments for turn in turns)
    chosen: dict[str, Any] = {**(begun_with.sampling if begun_with else {}), **chat.sampling}
    last = next((turn for turn in reversed(turns) if turn.text or turn.role == "user"), None)
    task = as_task(last.text) if last and last.role == "user" and pictures else None
    held = asking.held(*task, installed.name) if task else {}
    return Request(told, sampling(installed, settings, chosen, pictures=pictures), drop_oldest=True, **held)


def system_prompt(chat: Chat, settings: Settings) -> str:
    """The chat's own, else that of the settings; empty for none."""
    return (chat.system if chat.system is not None else settings.system) or ""


async def answer(history: History, engine: Engine, asked: Request, turn_id: int) -> AsyncIterator[Event]:
    """The events of an answer, each in the history before it is given on. However it ends, its turn says how.

    Raises what `Engine.generate` raises; what was written by then is kept.
    """
    error = ""
    end: Finished | None = None
    try:
        async with aclosing(engine.generate(asked)) as events:
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
