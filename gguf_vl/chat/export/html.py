"""A chat as one HTML file: pictures inside it, light and dark, no script, and nothing fetched from anywhere."""

from __future__ import annotations

import time
from base64 import b64encode
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gguf_vl.chat.history import History
from gguf_vl.chat.shown import as_markdown
from gguf_vl.chat.turns import Attachment, Turn
from gguf_vl.tasks.page import head

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_STYLE = Path(__file__).with_name("page.css")
_SHOWN = {".png", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".tiff", ".heic"}
_PLAYED = {".mp4": "video/mp4", ".mkv": "video/webm", ".ogv": "video/ogg"}
"""What browsers play, by the suffixes of a history; Matroska is mostly WebM."""


def export(history: History, chat_id: int) -> str:
    """The chosen path of a chat as a page. Raises ChatNotFound."""
    with history.reading() as rows:
        chat, turns = rows.chat(chat_id), rows.turns(chat_id)
    system = f'<aside class="system">{escape(chat.system)}</aside>\n' if chat.system else ""
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(chat.created))
    return f"""{head(chat.title, _STYLE)}<body>
<header><h1>{escape(chat.title)}</h1><p>{created}</p></header>
{system}{"".join(map(_article, turns))}</body>
</html>
"""


def _article(turn: Turn) -> str:
    who = "You" if turn.role == "user" else turn.model or "Answer"
    inner = "".join(map(_figure, turn.attachments))
    if turn.thinking.strip():
        inner += f'<details><summary>Thinking</summary><div class="plain">{escape(turn.thinking)}</div></details>\n'
    if turn.text.strip():
        inner += (
            f'<div class="plain">{escape(turn.text)}</div>\n' if turn.role == "user" else _rendered(as_markdown(turn))
        )
    if turn.state == "failed":
        inner += f'<p class="state">Failed: {escape(turn.error)}</p>\n'
    elif turn.state != "done":
        inner += '<p class="state">Stopped.</p>\n'
    return f'<article class="{turn.role}">\n<h2>{escape(who)}</h2>\n{inner}</article>\n'


def _figure(attachment: Attachment) -> str:
    name, suffix = escape(attachment.name), attachment.path.suffix
    try:
        data = b64encode(attachment.path.read_bytes()).decode("ascii")
    except OSError:
        return f'<p class="state">{name}: its file is gone.</p>\n'
    shown = ""
    if attachment.seconds is not None:
        kind = _PLAYED.get(suffix)
        shown = f'<video controls src="data:{kind};base64,{data}"></video>' if kind else ""
    elif suffix in _SHOWN:
        shown = f'<img alt="{name}" src="data:image/{suffix[1:]};base64,{data}">'
    size = f"{attachment.width} × {attachment.height}"
    size += "" if attachment.seconds is None else f", {attachment.seconds:.1f} s"
    return f"<figure>{shown}<figcaption>{name}, {size}</figcaption></figure>\n"


def _rendered(markdown: str) -> str:
    rendered: str = _renderer().render(markdown)
    return rendered


@cache
def _renderer() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # A picture that an answer names is somewhere else: it would be fetched when the page is opened.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
