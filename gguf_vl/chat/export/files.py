"""Chats as files. A file is under its name whole, or not at all; none that is there is replaced unless it is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf_vl.chat.history import History


class Form(StrEnum):
    """What a chat is exported as."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


_ENDINGS = {Form.MARKDOWN: ".md", Form.HTML: ".html", Form.JSON: ".json"}


def write(history: History, chat_id: int, form: Form, folder: Path) -> Path:
    """Write a chat to a new file in `folder`, which is made where it is not there; Markdown's pictures into a folder
    beside it. -> the file.

    Raises `ChatNotFound`, and `GgufVlError` where the disk refuses.
    """
    from gguf_vl.chat.export import html, markdown
    from gguf_vl.chat.export.naming import unused
    from gguf_vl.store.disk import replace_text, telling

    title = history.chat(chat_id).title
    beside: Path | None = None
    with telling(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
        path = unused(folder, title, _ENDINGS[form])
        match form:
            case Form.MARKDOWN:
                text, pictures = markdown.export(history, chat_id, path.stem)
                if pictures:
                    beside = _copied(pictures, path.with_suffix(""))
            case Form.HTML:
                text = html.export(history, chat_id)
            case Form.JSON:
                text = as_json(history, [chat_id])
        try:
            replace_text(path, text)
        except BaseException:
            if beside:
                shutil.rmtree(beside, ignore_errors=True)
            raise
    return path


def as_json(history: History, chat_ids: Iterable[int]) -> str:
    """The text of a file that has these chats, to be imported again. Raises `ChatNotFound`."""
    import json

    from gguf_vl.chat.export import json as plain

    return json.dumps(plain.export(history, chat_ids), ensure_ascii=False, indent=1) + "\n"


def _copied(pictures: Mapping[str, Path], folder: Path) -> Path:
    """Copy files into a new folder, by the names they are to have there. -> the folder."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    aside.mkdir()
    try:
        for name, source in pictures.items():
            shutil.copyfile(source, aside / name)
        return aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
