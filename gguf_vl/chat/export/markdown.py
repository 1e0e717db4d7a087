"""A chat as Markdown, with its pictures as files beside it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from gguf_vl.chat.export.naming import file_name
from gguf_vl.chat.frames import without_frames
from gguf_vl.chat.history import History
from gguf_vl.chat.shown import as_markdown
from gguf_vl.chat.turns import Attachment, Turn

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")


def export(history: History, chat_id: int, folder: str) -> tuple[str, dict[str, Path]]:
    """The chosen path of a chat, which shows its pictures from the folder of that name beside it. -> the text, and the
    files by the names that it calls them there. Raises ChatNotFound.
    """
    with history.reading() as rows:
        chat, turns = rows.chat(chat_id), rows.turns(chat_id)
    beside = _Pictures(folder)
    parts = [f"# {_plain(chat.title)}", *([_quoted(chat.system)] if chat.system else [])]
    for turn in turns:
        parts += _parts(turn, beside)
    return "\n\n".join(parts) + "\n", beside.files


class _Pictures:
    """The pictures of a chat, each once, in a folder."""

    def __init__(self, folder: str) -> None:
        self.files: dict[str, Path] = {}
        self._folder = folder
        self._names: dict[str, str] = {}

    def link(self, attachment: Attachment) -> str:
        """Show the picture from there."""
        alt = _plain(attachment.name)
        if attachment.digest not in self._names:
            if not attachment.path.is_file():
                return f"*({alt}: its file is gone)*"
            stem = file_name(Path(without_frames(attachment.name)).stem, "picture")
            name = f"{len(self._names) + 1:02} {stem}{attachment.path.suffix}"
            self._names[attachment.digest] = name
            self.files[name] = attachment.path
        mark = "!" if attachment.seconds is None else ""
        return f"{mark}[{alt}]({quote(f'{self._folder}/{self._names[attachment.digest]}')})"


def _parts(turn: Turn, beside: _Pictures) -> list[str]:
    who = "You" if turn.role == "user" else turn.model or "Answer"
    parts = [f"## {_plain(who)}", *(beside.link(each) for each in turn.attachments)]
    if turn.thinking.strip():
        parts.append(_quoted(turn.thinking))
    if turn.text.strip():
        parts.append(_closed(as_markdown(turn).strip("\n")))
    if turn.state == "failed":
        parts.append(f"*(failed: {_plain(turn.error)})*")
    elif turn.state != "done":
        parts.append("*(stopped)*")
    return parts


def _plain(text: str) -> str:
    """Text on one line that says nothing to Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|~!&])", r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _closed(text: str) -> str:
    """The text with the code fence closed that it leaves open, or all behind it would be code."""
    fence = ""
    for line in text.splitlines():
        if found := _FENCE.match(line):
            mark, rest = found.groups()
            if not fence:
                fence = mark if mark[0] == "~" or "`" not in rest else ""
            elif mark[0] == fence[0] and len(mark) >= len(fence) and not rest.strip():
                fence = ""
    return f"{text}\n{fence}" if fence else text
