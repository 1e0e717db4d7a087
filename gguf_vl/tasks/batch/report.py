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

from PIL import Image

from gguf_vl.errors import GgufVlError, InvalidPicture
from gguf_vl.media.boxes import Box, Point
from gguf_vl.media.drawing import draw_boxes, thumbnail
from gguf_vl.media.pdf import split_pages
from gguf_vl.media.pictures import MAX_BYTES, read_page
from gguf_vl.media.video import MOST_TOKENS, Frames, is_video, load_clip
from gguf_vl.tasks.batch.inputs import natural
from gguf_vl.tasks.batch.line import Plain
from gguf_vl.tasks.batch.output import Output
from gguf_vl.tasks.page import head
from gguf_vl.types import Picture, PictureLimits

THUMBNAIL = (256, 256)
"""Pixels of a thumbnail's sides at most."""
_PAGE = PictureLimits(1, 256)
_FRAME_TOKENS = 48
"""A page is drawn, and a frame taken, at about twice the size that is shown."""
_GAP = 8
_QUALITY = 72
_STYLE = Path(__file__).with_name("report.css")


def write_report(
    path: Path, output: Output, job: Mapping[str, Any], *, tell: Callable[[int, int], None] = lambda _done, _all: None
) -> None:
    """Write the page of all lines, the failed ones first; `tell` hears how many are in it. Raises `GgufVlError`.

    The file is at every moment the whole old one or the whole new one.
    """
    groups: dict[str, list[Plain]] = {"failed": [], "answered": []}
    for line in sorted(output.lines(), key=lambda line: natural(line["file"])):
        groups["failed" if line.get("error") else "answered"].append(line)
    n, total = 0, sum(map(len, groups.values()))
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with new.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(_beginning(output.path.name, job, {name: len(lines) for name, lines in groups.items()}))
                for name, lines in groups.items():
                    if lines:
                        file.write(f'<section class="{name}">\n<h2 id="{name}">{len(lines):,} {name}</h2>\n')
                    for line in lines:
                        file.write(_article(line, output.place(line["file"])))
                        n += 1
                        tell(n, total)
                    if lines:
                        file.write("</section>\n")
                file.write("</main>\n</body>\n</html>\n")
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise GgufVlError(
            f"The report {path} cannot be written: {error.strerror or error}.", "Give another name with --report."
        ) from error


def _beginning(name: str, job: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    title = f"{job['task'] or 'Batch'}: {name}"
    links = " ".join(f'<a href="#{each}">{n:,} {each}</a>' for each, n in counts.items() if n)
    return f"""{head(title, _STYLE)}<body>
<header>
<h1>{escape(title)}</h1>
<p>{_pictures(sum(counts.values()))}, asked of {escape(str(job["model"]))}</p>
<details><summary>What was asked</summary><pre>{escape(str(job["prompt"]))}</pre></details>
<nav>{links}</nav>
</header>
<main>
"""


def _article(line: Plain, place: str) -> str:
    return (
        f"<article>\n<figure>{_thumbnail(place, line)}<figcaption>{escape(line['file'])}</figcaption></figure>\n"
        f"{''.join(_parts(line))}</article>\n"
    )


def _parts(line: Plain) -> Iterator[str]:
    if line.get("error"):
        yield f'<p class="error">{escape(str(line["error"]))}</p>\n'
    if line.get("note"):
        yield f"<p class=note>{escape(str(line['note']))}</p>\n"
    fields = line.get("fields")
    if isinstance(fields, dict):
        rows = (f"<dt>{escape(str(key))}</dt><dd>{escape(_value(value))}</dd>" for key, value in fields.items())
        yield f"<dl>{''.join(rows)}</dl>\n"
    elif fields is not None or line.get("answer"):
        text = line["answer"] if fields is None else _value(fields)
        yield f'<div class="text">{escape(text)}</div>\n'


def _thumbnail(place: str, line: Plain) -> str:
    try:
        picture = _small(place)
    except InvalidPicture:  # gone or broken: the line says so, or the name stands alone
        return ""
    if (line.get("boxes") or line.get("points")) and line.get("size") and not is_video(Path(place)):
        across, down = picture.width / line["size"][0], picture.height / line["size"][1]
        boxes = [_scaled(Box(**box), across, down) for box in line.get("boxes") or ()]
        points = [_moved(Point(**point), across, down) for point in line.get("points") or ()]
        picture = draw_boxes(picture, boxes, points)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_QUALITY)
    source = f"data:image/jpeg;base64,{b64encode(data.getvalue()).decode('ascii')}"
    return (
        f'<img alt="" width="{picture.width}" height="{picture.height}" loading="lazy" decoding="async" src="{source}">'
    )


def _small(place: str) -> Image.Image:
    """A picture, a page of a document, or four moments of a video, no larger than `THUMBNAIL`."""
    _, pages = split_pages(place)
    if pages is not None:
        return thumbnail(read_page(place, _PAGE, MAX_BYTES)[0], THUMBNAIL)
    if not is_video(Path(place)):
        return thumbnail(place, THUMBNAIL)
    clip = load_clip(Path(place), PictureLimits(1, _FRAME_TOKENS), MOST_TOKENS, Frames(number=4))
    frames = [frame for step in clip.steps for frame in _frames(step.picture)]
    across, down = (2, 2) if len(frames) > 2 else (len(frames), 1)
    width, height = frames[0].size
    sheet = Image.new("RGB", (across * (width + _GAP) - _GAP, down * (height + _GAP) - _GAP), "white")
    for at, frame in enumerate(frames):
        sheet.paste(frame, (at % across * (width + _GAP), at // across * (height + _GAP)))
    sheet.thumbnail(THUMBNAIL)
    return sheet


def _frames(picture: Picture) -> Iterator[Image.Image]:
    size = picture.width, picture.height
    n_bytes = 3 * picture.width * picture.height
    for at in range(picture.frames):
        yield Image.frombytes("RGB", size, picture.rgb[at * n_bytes : (at + 1) * n_bytes])


def _moved(point: Point, across: float, down: float) -> Point:
    return Point(point.label, round(point.x * across), round(point.y * down))


def _scaled(box: Box, across: float, down: float) -> Box:
    return Box(
        box.label, *(round(at * by) for at, by in ((box.x1, across), (box.y1, down), (box.x2, across), (box.y2, down)))
    )


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _pictures(n: int) -> str:
    return "1 picture" if n == 1 else f"{n:,} pictures"
