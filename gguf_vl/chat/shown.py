"""An answer as Markdown for a person: as its task says that it is shown."""

from __future__ import annotations

import json
import re
from typing import Any

from gguf_vl.chat.presets import task_of
from gguf_vl.chat.turns import Turn
from gguf_vl.errors import GgufVlError, UsageError

_FENCED = re.compile(r"\s*```")


def as_markdown(turn: Turn) -> str:
    """A table as a table, data and HTML as blocks of code, anything else as it is; so is what was cut off."""
    if turn.role == "user" or not turn.task or turn.state != "done" or turn.finish_reason not in ("", "stop"):
        return turn.text
    try:
        task = task_of(turn.task)
    except UsageError:  # a person's own, in a file that is broken now: `/task` says so
        return turn.text
    if task is None or task.says_nothing(turn.text):
        return turn.text
    if task.shown == "html":
        return turn.text if _FENCED.match(turn.text) else _block("html", turn.text)
    if task.schema is None:
        return turn.text
    from gguf_vl.tasks import results
    from gguf_vl.types import Finished, Timings, Usage

    try:
        result = results.read(task, turn.text, Finished("stop", Usage(0, 0, 0), Timings(0, 0, 0, None)), ())
    except GgufVlError:  # in words of the person's own it is held to nothing
        return turn.text
    if result.rows:
        return results.as_markdown(result.rows)
    return _block("json", _pretty(result.fields)) if isinstance(result.fields, dict | list) else turn.text


def _pretty(fields: Any) -> str:
    """Data with a line for each thing of a list, where these are small."""
    if isinstance(fields, list):
        lines = [json.dumps(each, ensure_ascii=False) for each in fields]
        return "[\n  " + ",\n  ".join(lines) + "\n]" if lines else "[]"
    return json.dumps(fields, ensure_ascii=False, indent=2)


def _block(language: str, text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip()}\n{fence}"
