"""A history to test with, and pictures to put into it."""

from __future__ import annotations

import zlib
from typing import Any

from gguf_vl.chat.export import json as data
from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Turn


def png(seed: int = 0) -> bytes:
    """A picture of one pixel; another for every seed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = chunk(b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + seed.to_bytes(3, "big")))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def exchange(history: History, chat_id: int, parent_id: int | None, question: str, answer: str) -> tuple[Turn, Turn]:
    """A question and its answer, done."""
    asked = history.question(chat_id, parent_id, question)
    begun = history.begin_answer(asked.id, "pocket")
    history.append(begun.id, answer)
    history.finish(begun.id, "done", finish_reason="stop")
    return asked, history.turn(begun.id)


def export_of_many(history: History, n_chats: int) -> dict[str, Any]:
    """So many chats as exported; none of them is in the history."""
    chat = history.new_chat().id
    exchange(history, chat, None, "Zebra?", "Yes.")
    exported = data.export(history, [chat])
    history.delete_chat(chat)
    return exported | {"chats": exported["chats"] * n_chats}
