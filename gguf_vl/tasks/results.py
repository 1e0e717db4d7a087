"""An answer as data: fields, boxes, points, rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gguf_vl.media.boxes import Box, Point
from gguf_vl.tasks.task import Task
from gguf_vl.types import Finished, Picture


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    `text` is the answer; `fields` are the JSON value of one that is held to a schema, None of any other. `boxes` and
    `points` are in pixels of the last picture, upright. `rows` are those of a table, its head first.
    """

    text: str
    fields: Any = None
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def read(task: Task | None, answer: str, end: Finished, pictures: Sequence[Picture]) -> Result:
    """What an answer holds. A task of None is a question of one's own.

    Raises `CutOff`, with the partial text, when an answer that is held to a schema did not come to its end, and
    `AnswerInvalid` when it is not what the schema asks.
    """
    raise NotImplementedError
