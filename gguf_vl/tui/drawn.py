"""A picture made ready for the terminal: opened, boxes on it, reduced, and turned into what is printed. For threads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from gguf_vl.media.boxes import Box, Point
from gguf_vl.tui import graphics
from gguf_vl.tui.terminal import Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


class Opened(NamedTuple):
    """`image` in RGB on white, perhaps reduced, and the upright picture's own (width, height) in pixels."""

    image: Image
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a picture is to be drawn: on columns x rows `cells` of (width, height) `cell` pixels."""

    cells: tuple[int, int]
    cell: tuple[int, int]
    protocol: Protocol
    colors: str
    boxes: tuple[Box, ...]
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture as `strips` of half blocks and, where the terminal can do more, what goes over them row by row.

    `number` is that of a picture which the terminal has to be given by `upload` first, and told to forget in the end.
    """

    wanted: Wanted
    strips: list[Strip]
    placeholders: list[Strip]
    sixels: list[str]
    upload: str = ""
    number: int | None = None


def without_upload(picture: Drawn) -> Drawn:
    """The picture once the terminal has it."""
    return replace(picture, upload="")


def fit(size: tuple[int, int], room: tuple[int, int], cell: tuple[int, int], enlarged: float = 1) -> tuple[int, int]:
    """Columns and rows for a picture of `size` pixels in a `room` of cells: its shape kept, at most so `enlarged`."""
    (width, height), (columns, rows) = size, (min(side, graphics.MOST_CELLS) for side in room)
    scale = min(columns * cell[0] / width, rows * cell[1] / height, enlarged)
    return (
        max(min(round(width * scale / cell[0]), columns), 1),
        max(min(round(height * scale / cell[1]), rows), 1),
    )


def open_picture(source: Path | bytes | Image | Callable[[], Path | bytes | Image], side: int) -> Opened:
    """The picture, reduced to a size that is quick to handle, but not below `side` pixels. Raises InvalidPicture."""
    from PIL import Image

    from gguf_vl.media.drawing import thumbnail
    from gguf_vl.media.pixels import rgb_on_white

    given = source() if callable(source) else source
    if isinstance(given, Image.Image):
        return Opened(rgb_on_white(given), given.size)
    image = thumbnail(given, (2 * side, 2 * side))
    return Opened(image, _size(given, image.size))


def _size(source: Path | bytes, reduced: tuple[int, int]) -> tuple[int, int]:
    """Of a file that is known to be a picture, by its header alone, upright as the `reduced` one is."""
    from gguf_vl.media.formats import kind_of, parser_of

    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        head = file.read(1024)
        if b"%PDF-" in head or (kind := kind_of(head, "it")) == "HEIC":
            return reduced  # a page has no pixels of its own, and HEIC is parsed in another process only
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height = parser_of(kind, "it")(file).size
    turned = (width > height) != (reduced[0] > reduced[1])
    return (height, width) if turned else (width, height)


def draw(opened: Opened, wanted: Wanted) -> Drawn:
    """What the terminal shows for `opened`."""
    columns, rows = wanted.cells
    strips = _half_blocks(opened, wanted)
    if wanted.protocol not in ("kitty", "sixel"):
        return Drawn(wanted, strips, [], [])
    image = opened.image.resize((columns * wanted.cell[0], rows * wanted.cell[1]), reducing_gap=2)
    if wanted.boxes or wanted.points:
        from gguf_vl.media.drawing import draw_boxes

        boxes, points = _scaled(wanted.boxes, opened.size, image.size), _moved(wanted.points, opened.size, image.size)
        image = draw_boxes(image, boxes, points)
    if wanted.protocol == "sixel":
        return Drawn(wanted, strips, [], graphics.sixel_rows(image, columns, rows, wanted.cell))
    found = graphics.kitty_number(wanted.colors)
    if found is None:
        return Drawn(wanted, strips, [], [])
    number, color = found
    placeholders = graphics.kitty_rows(number, color, columns, rows)
    return Drawn(wanted, strips, placeholders, [], graphics.kitty_upload(number, image, columns, rows), number)


def _scaled(boxes: Sequence[Box], size: tuple[int, int], to: tuple[int, int]) -> list[Box]:
    across, down = to[0] / size[0], to[1] / size[1]
    return [
        replace(
            box,
            x1=round(box.x1 * across),
            y1=round(box.y1 * down),
            x2=round(box.x2 * across),
            y2=round(box.y2 * down),
        )
        for box in boxes
    ]


def _moved(points: Sequence[Point], size: tuple[int, int], to: tuple[int, int]) -> list[Point]:
    across, down = to[0] / size[0], to[1] / size[1]
    return [replace(point, x=round(point.x * across), y=round(point.y * down)) for point in points]


def _half_blocks(opened: Opened, wanted: Wanted) -> list[Strip]:
    """With outlines a pixel wide, and labels as text: drawn into so few pixels nobody could read them."""
    columns, rows = wanted.cells
    if not wanted.boxes and not wanted.points:
        return graphics.half_blocks(opened.image, columns, rows)
    from PIL import Image, ImageDraw

    from gguf_vl.media.drawing import COLOURS

    image = opened.image.resize((columns, rows * 2), Image.Resampling.BOX)
    pen = ImageDraw.Draw(image)
    dots = [
        Box(point.label, point.x - 1, point.y - 1, point.x + 1, point.y + 1)
        for point in _moved(wanted.points, opened.size, image.size)
    ]
    boxes = [*_scaled(wanted.boxes, opened.size, image.size), *dots]
    labels = list(dict.fromkeys(box.label for box in boxes))
    places = [labels.index(box.label) for box in boxes] if len(labels) > 1 else range(len(boxes))
    colors = [COLOURS[place % len(COLOURS)] for place in places]  # as draw_boxes has them
    for box, color in zip(boxes, colors, strict=True):
        corners = (box.x1, box.y1, max(box.x2 - 1, box.x1), max(box.y2 - 1, box.y1))
        pen.rectangle(corners, outline=color, fill=color if box in dots else None)
    strips = graphics.half_blocks(image, columns, rows)
    for box, color in zip(boxes, colors, strict=True):
        if box.label:
            ink = "#000000" if sum(color) > 330 else "#ffffff"
            _write(strips, box.label, box.x1, (box.y1 + 1) // 2 - 1, Style(color=ink, bgcolor=Color.from_rgb(*color)))
    return strips


def _write(strips: list[Strip], label: str, column: int, row: int, style: Style) -> None:
    """The label in that row or, where there is none, the nearest; moved to the left where it would be cut."""
    row = min(max(row, 0), len(strips) - 1)
    strip = strips[row]
    width = min(cell_len(label), strip.cell_length)
    column = max(min(column, strip.cell_length - width), 0)
    text = Strip([Segment(set_cell_size(label, width), style)], width)
    strips[row] = Strip.join([strip.crop(0, column), text, strip.crop(column + width)])
