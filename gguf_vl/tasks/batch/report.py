"""A batch as one page to look through: thumbnails inside it, light and dark, no script, nothing fetched from anywhere.

It is written picture by picture: a thumbnail takes some 8 KB of the page, and no two are in memory at once.
"""

from __future__ import annotations

import io
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from gguf_vl.errors import GgufVlError, InvalidPicture
from gguf_vl.media.boxes import Box
from gguf_vl.media.drawing import draw_boxes, thumbnail
from gguf_vl.media.pdf import page, split_page
from gguf_vl.tasks.batch.inputs import natural
from gguf_vl.tasks.batch.line import Plain
from gguf_vl.tasks.batch.output import Output

THUMBNAIL = (256, 256)
"""Pixels of a thumbnail's sides at most."""
_QUALITY = 72
_STYLE = Path(__file__).with_name("report.css")


def write_report(
    path: Path, output: Output, job: Mapping[str, Any], *, tell: Callable[[int, int], None] = lambda _done, _all: None
) -> None:
    """Write the page of all lines, the failed ones first; `tell` hears how many are in it. Raises `GgufVlError`.

    The file is at every moment the whole old one or the whole new one.
    """
    lines = sorted(output.lines(), key=lambda line: (not line.get("error"), natural(line["file"])))
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with new.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(_head(output, job, lines))
                for n, line in enumerate(lines, 1):
                    file.write(_article(n, line, output.place(line["file"])))
                    tell(n, len(lines))
                file.write("</main>\n</body>\n</html>\n")
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise GgufVlError(
            f"The report {path} cannot be written: {error.strerror or error}.", "Give another name with --report."
        ) from error


def _head(output: Output, job: Mapping[str, Any], lines: list[Plain]) -> str:
    title = escape(f"{job['task'] or 'Batch'}: {output.path.name}")
    failed = f'<nav><a href="#n1">{output.n_failed} failed</a>, they come first.</nav>' if output.n_failed else ""
    return f"""<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{_pictures(len(lines))}, asked of {escape(str(job["model"]))}</p>
<details><summary>What was asked</summary><pre>{escape(str(job["prompt"]))}</pre></details>
{failed}
</header>
<main>
"""


def _article(n: int, line: Plain, place: str) -> str:
    name, error = escape(line["file"]), line.get("error")
    inner = "".join(_parts(line))
    return (
        f'<article id="n{n}"{" class=failed" if error else ""}>\n<figure>{_thumbnail(place, line)}'
        f"<figcaption>{name}</figcaption></figure>\n{inner}</article>\n"
    )


def _parts(line: Plain) -> Iterator[str]:
    if line.get("error"):
        yield f'<p class="error">{escape(str(line["error"]))}</p>\n'
    fields = line.get("fields")
    if isinstance(fields, dict):
        rows = (f"<dt>{escape(str(key))}</dt><dd>{escape(_value(value))}</dd>" for key, value in fields.items())
        yield f"<dl>{''.join(rows)}</dl>\n"
    elif fields is not None or line.get("answer"):
        text = line["answer"] if fields is None else _value(fields)
        yield f'<div class="text">{escape(text)}</div>\n'


def _thumbnail(place: str, line: Plain) -> str:
    try:
        file, number = split_page(place)
        assert isinstance(file, str)
        picture = thumbnail(place if number is None else page(Path(file), number), THUMBNAIL)
    except InvalidPicture:  # gone or broken: the line says so, or the name stands alone
        return ""
    if line.get("boxes") and line.get("size"):
        across, down = picture.width / line["size"][0], picture.height / line["size"][1]
        picture = draw_boxes(picture, [_scaled(Box(**box), across, down) for box in line["boxes"]])
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_QUALITY)
    source = f"data:image/jpeg;base64,{b64encode(data.getvalue()).decode('ascii')}"
    return (
        f'<img alt="" width="{picture.width}" height="{picture.height}" loading="lazy" decoding="async" src="{source}">'
    )


def _scaled(box: Box, across: float, down: float) -> Box:
    return Box(
        box.label, *(round(at * by) for at, by in ((box.x1, across), (box.y1, down), (box.x2, across), (box.y2, down)))
    )


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _pictures(n: int) -> str:
    return "1 picture" if n == 1 else f"{n:,} pictures"
