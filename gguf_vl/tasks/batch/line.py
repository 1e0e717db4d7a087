"""What came of one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gguf_vl.errors import AnswerInvalid, CutOff, GgufVlError
from gguf_vl.media.boxes import Box, Point
from gguf_vl.types import Finished, Timings, Usage


@dataclass(frozen=True, slots=True)
class Line:
    """One picture's result, or why there is none.

    `file` is its name as it was found; `answer` None where nothing came, and only a part where `error` says so;
    `fields` is the JSON value of an answer held to a schema. `boxes` and `points` are pixels of the upright original,
    which is `size` (width, height) of them. `note` says what of a video had no room or is missing.
    """

    file: str
    answer: str | None = None
    fields: Any = None
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    size: tuple[int, int] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: str | None = None
    note: str = ""

    def as_plain(self) -> dict[str, Any]:
        """As it stands in a file of lines; `points` and `note` only where there are some."""
        plain = asdict(self)
        for name in ("points", "note"):
            if not plain[name]:
                del plain[name]
        return plain


def failed(file: str, error: GgufVlError, end: Finished | None = None, size: tuple[int, int] | None = None) -> Line:
    """The line of a picture that could not be answered, with the part of an answer that an error carries."""
    part = {CutOff: "partial", AnswerInvalid: "answer"}.get(type(error))
    return Line(
        file,
        answer=getattr(error, part) if part else None,
        size=size,
        usage=end.usage if end else None,
        timings=end.timings if end else None,
        error=f"{error.what} {error.fix}",
    )


Plain = Mapping[str, Any]
"""A line as it was read again."""
