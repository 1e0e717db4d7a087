"""Chats as data: every branch, draft and picture, to be imported again (`importing.load`).

    {"format": "gguf-vl chats", "version": 1,
     "chats": [{"title": null, …, "draft": {"text": "", "attachments": []}, "turns": [
         {"parent": null, "chosen": 1, "role": "user", "attachments": [{"picture": DIGEST, "name": …}], …}, …]}, …],
     "pictures": {DIGEST: {"width": …, "height": …, "seconds": null, "data": BASE64}}}

A turn's `parent` is its place, from 0, in `turns`; of turns with one parent the one with the highest `chosen` is on the
path. A picture whose file is gone has null for data; one with seconds is a video.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from gguf_vl.chat.history import History
from gguf_vl.chat.rows import Rows
from gguf_vl.chat.turns import Attachment, Turn

FORMAT, VERSION = "gguf-vl chats", 1


def export(history: History, chat_ids: Iterable[int]) -> dict[str, Any]:
    """These chats with all that is in them, but for what was deleted. Raises ChatNotFound.

    An answer that is being written has what has come of it, and counts as stopped.
    """
    pictures: dict[str, Attachment] = {}
    with history.reading() as rows:
        chats = [_chat(rows, each, pictures) for each in chat_ids]
    return {
        "format": FORMAT,
        "version": VERSION,
        "chats": chats,
        "pictures": {digest: _picture(each) for digest, each in pictures.items()},
    }


def _chat(rows: Rows, chat_id: int, pictures: dict[str, Attachment]) -> dict[str, Any]:
    chat, draft, turns = rows.chat(chat_id), rows.draft(chat_id), rows.turns(chat_id, all_branches=True)
    for attachment in (*draft.attachments, *(each for turn in turns for each in turn.attachments)):
        pictures.setdefault(attachment.digest, attachment)
    places: dict[int | None, int | None] = {None: None} | {turn.id: place for place, turn in enumerate(turns)}
    ranks = ranked([(turn.parent_id, turn.chosen) for turn in turns])
    return {
        "title": chat.title if chat.titled else None,
        "created": chat.created,
        "updated": chat.updated,
        "pinned": chat.pinned,
        "system": chat.system,
        "sampling": dict(chat.sampling),
        "model": chat.model,
        "preset": chat.preset,
        "draft": {"text": draft.text, "attachments": _attachments(draft.attachments)},
        "turns": [_turn(turn, places[turn.parent_id], rank) for turn, rank in zip(turns, ranks, strict=True)],
    }


def ranked(turns: Sequence[tuple[int | None, int]]) -> list[int]:
    """For each turn's (parent, chosen) its rank, from 1, among those of the same parent."""
    ranks, counted = [0] * len(turns), dict[int | None, int]()
    for place in sorted(range(len(turns)), key=lambda place: turns[place][1]):
        parent, _ = turns[place]
        ranks[place] = counted[parent] = counted.get(parent, 0) + 1
    return ranks


def _turn(turn: Turn, parent: int | None, chosen: int) -> dict[str, Any]:
    return {
        "parent": parent,
        "chosen": chosen,
        "role": turn.role,
        "text": turn.text,
        "thinking": turn.thinking,
        "attachments": _attachments(turn.attachments),
        "state": "stopped" if turn.state == "writing" else turn.state,
        "finish_reason": turn.finish_reason,
        "error": turn.error,
        "model": turn.model,
        "usage": asdict(turn.usage) if turn.usage else None,
        "timings": asdict(turn.timings) if turn.timings else None,
        "created": turn.created,
        "task": turn.task,
    }


def _attachments(attachments: Iterable[Attachment]) -> list[dict[str, str]]:
    return [{"picture": each.digest, "name": each.name} for each in attachments]


def _picture(attachment: Attachment) -> dict[str, Any]:
    try:
        data = b64encode(attachment.path.read_bytes()).decode("ascii")
    except OSError:
        data = None
    return {"width": attachment.width, "height": attachment.height, "seconds": attachment.seconds, "data": data}
