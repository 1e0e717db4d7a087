"""A chat as Markdown, with its pictures as files beside it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import quote

from gguf_vl.chat.export.naming import file_name, unused
from gguf_vl.chat.history import History
from gguf_vl.chat.shown import as_markdown
from gguf_vl.chat.turns import Attachment, Turn

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")


def export(history: History, chat_id: int, folder: Path) -> Path:
    """Write the chosen path of a chat to `folder`/TITLE.md, and its pictures into TITLE/. -> the .md file.

    What is there already is not replaced: another number goes behind the title. Raises ChatNotFound, and GgufVlError
    where the disk refuses.
    """
    from gguf_vl.store.disk import telling

    with history.reading() as rows:
        chat, turns = rows.chat(chat_id), rows.turns(chat_id)
    with telling(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
        path = unused(folder, chat.title, ".md")
        beside = _Pictures(path.with_name(path.name.removesuffix(".md")))
        parts = [f"# {_plain(chat.title)}", *([_quoted(chat.system)] if chat.system else [])]
        for turn in turns:
            parts += _parts(turn, beside)
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


class _Pictures:
    """The folder of a chat's pictures, made with the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, str] = {}

    def link(self, attachment: Attachment) -> str:
        """Copy the picture, once, and show it from there."""
        alt = _plain(attachment.name)
        if attachment.digest not in self._names:
            if not attachment.path.is_file():
                return f"*({alt}: its file is gone)*"
            self._folder.mkdir(exist_ok=True)
            stem = file_name(Path(attachment.name).stem, "picture")
            name = f"{len(self._names) + 1:02} {stem}{attachment.path.suffix}"
            shutil.copyfile(attachment.path, self._folder / name)
            self._names[attachment.digest] = name
        mark = "!" if attachment.seconds is None else ""
        return f"{mark}[{alt}]({quote(f'{self._folder.name}/{self._names[attachment.digest]}')})"


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
