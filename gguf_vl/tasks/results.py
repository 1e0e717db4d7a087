"""An answer as data: fields, boxes, points, rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from gguf_vl.errors import AnswerInvalid, CutOff
from gguf_vl.media.boxes import Box, Point, find_boxes, find_points
from gguf_vl.tasks.task import Task
from gguf_vl.types import Finished, Picture

_FENCED = re.compile(r"\s*```[a-zA-Z]*\n(.*?)(?:\n```\s*|\Z)", re.DOTALL)
_SHOWN = 2000
"""Characters of a cut-off answer that its error tells; `CutOff.partial` has them all."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    `text` is the answer, without the fence around a page of HTML or Markdown; `fields` are the JSON value of one that
    is held to a schema, an empty list where it says that there is nothing, None of any other. `boxes` and `points` are
    in pixels of the last picture, upright. `rows` are those of a table, its head first.
    """

    text: str
    fields: Any = None
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def read(task: Task | None, answer: str, end: Finished, pictures: Sequence[Picture]) -> Result:
    """What an answer holds. A task of None is a question of one's own.

    That an answer fulfils its schema is the work of the engine's grammar; here it is read as JSON, and one that did not
    come to its end is never taken for whole. Raises `CutOff` with the partial text for that one, and `AnswerInvalid`
    for what is no JSON after all.
    """
    fields = _fields(task, answer, end) if task is not None and task.schema is not None else None
    size = pictures[-1].original_size if pictures else None
    return Result(
        text=_unfenced(answer) if task is not None and task.shown in ("html", "markdown") else answer,
        fields=fields,
        boxes=tuple(find_boxes(answer, size)) if size else (),
        points=tuple(find_points(answer, size)) if size else (),
        rows=_rows(fields) if task is not None and task.shown == "table" else (),
    )


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the head first, as a Markdown table."""
    lines = ["| " + " | ".join(_in_cell(cell) for cell in row) + " |" for row in rows]
    lines[1:1] = ["|" + " --- |" * len(rows[0])] if rows else []
    return "\n".join(lines)


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV (RFC 4180), with a line break alone at the ends of lines."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def as_text(task: Task | None, result: Result) -> str:
    """What a person is shown of a result, in the way that the task wants it; without a line break at the end.

    Boxes and points are lines of `label x1 y1 x2 y2` or `label x y` in pixels, with tabs between.
    """
    match task.shown if task is not None else "text":
        case "table":
            return as_markdown(result.rows)
        case "boxes" | "points":
            lines = [f"{_in_line(box.label)}\t{box.x1}\t{box.y1}\t{box.x2}\t{box.y2}" for box in result.boxes]
            lines += [f"{_in_line(point.label)}\t{point.x}\t{point.y}" for point in result.points]
            return "\n".join(lines)
        case "json":
            return result.text if result.fields is None else json.dumps(result.fields, ensure_ascii=False, indent=2)
        case _:
            if result.fields is not None and not isinstance(result.fields, (str, dict, list)):
                return json.dumps(result.fields)
            return result.text.rstrip("\n")


def _fields(task: Task, answer: str, end: Finished) -> Any:
    if end.finish_reason != "stop" or end.stopped_by:
        _cut_off(answer, end)
    if task.says_nothing(answer):
        return []
    try:
        return json.loads(answer, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid(
            f"The answer is not JSON: {error}. It begins with {answer[:80]!r}.",
            "Ask again; where it stays so, report it with the model's name.",
            answer,
        ) from error


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _cut_off(answer: str, end: Finished) -> NoReturn:
    why, fix = {
        "length": ("there was no room for more tokens", "Raise --max-tokens or --ctx, or show less at once."),
        "loop": ("it only repeated itself", "Cut the picture to the part that matters, or take a larger model."),
    }.get(end.finish_reason, ("it was stopped", "Ask again."))
    shown = " ".join(answer[:_SHOWN].split()) + ("…" if len(answer) > _SHOWN else "")
    raise CutOff(f"The answer was cut off, for {why}. What came is only a part: {shown or 'nothing'}", fix, answer)


def _unfenced(answer: str) -> str:
    """The inside of a fence around the whole answer."""
    found = _FENCED.fullmatch(answer)
    return found[1] if found else answer


def _rows(fields: Any) -> tuple[tuple[str, ...], ...]:
    """A table's rows of one length each. It has `columns` and `rows`, or is a list of objects."""
    if isinstance(fields, dict) and isinstance(fields.get("rows"), list):
        rows = [fields.get("columns") or [], *fields["rows"]]
    elif isinstance(fields, list) and all(isinstance(each, dict) for each in fields):
        head = list(dict.fromkeys(key for each in fields for key in each))
        rows = [head, *([each.get(key) for key in head] for each in fields)]
    else:
        return ()
    width = max((len(row) for row in rows), default=0)
    return tuple(tuple(_cell(row[at] if at < len(row) else None) for at in range(width)) for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _in_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>")


def _in_line(text: str) -> str:
    return " ".join(text.split())
