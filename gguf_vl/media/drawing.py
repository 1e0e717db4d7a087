"""Boxes and points drawn on a picture, and small pictures of large ones: what people are shown, and no model sees."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from PIL import Image, ImageDraw

from gguf_vl.media.boxes import Box, Point
from gguf_vl.media.decode import whole
from gguf_vl.media.formats import is_pdf, kind_of
from gguf_vl.media.lettering import Lettering
from gguf_vl.media.pdf import page_of
from gguf_vl.media.pictures import MAX_BYTES, MAX_PIXELS, decode_safely, decoding, read_page
from gguf_vl.media.sources import Source, read_source
from gguf_vl.types import PATCH, Picture, PictureLimits

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

COLOURS: tuple[Colour, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)
"""Told apart by the colour-blind too: Okabe and Ito's palette (2008), less its black, neighbours made unlike."""
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_PADDING = 0.25
"""Of a label's height, on each side of its text."""


def draw_boxes(image: Image.Image, boxes: Sequence[Box], points: Sequence[Point] = ()) -> Image.Image:
    """A copy of `image` in RGB with `boxes` and `points`, which are pixels of it, drawn and labelled.

    Those of one label have one colour, unless all have it. Points are discs, above all boxes. Lines suit the picture,
    and are thinner on small boxes; a black and a white edge keeps them seen on any ground. Labels stand above their box
    where there is room, always inside the picture, and off each other where they can. What no font here can write is
    left out of a label; when that is all of it, its number stands for it.
    """
    drawn = image.convert("RGB") if image.mode != "RGB" else image.copy()
    draw = ImageDraw.Draw(drawn)
    diagonal = math.hypot(*drawn.size)
    radius = int(min(max(diagonal / 90, 4), 24))
    places = [*boxes, *(_disc(point, radius, drawn.size) for point in points)]
    colours = _colours(places)
    by_size = sorted(range(len(boxes)), key=lambda at: -_area(boxes[at]))  # small ones are not hidden by large ones
    for at in by_size:
        _outline(draw, _within(boxes[at], drawn.size), colours[at], diagonal)
    discs = range(len(boxes), len(places))
    for at in discs:
        disc = places[at]
        draw.ellipse((disc.x1, disc.y1, disc.x2, disc.y2), fill=colours[at], outline=_BLACK, width=max(radius // 6, 1))
        draw.ellipse((disc.x1 - 1, disc.y1 - 1, disc.x2 + 1, disc.y2 + 1), outline=_WHITE)
    lettering = Lettering(min(max(round(diagonal / 70), 11), max(drawn.height // 3, 6)))
    taken: list[Rectangle] = [_within(places[at], drawn.size) for at in discs]
    for at in (*by_size, *discs):
        text = lettering.writable(places[at].label) or str(at + 1)
        taken.append(_label(draw, text, places[at], colours[at], lettering, drawn.size, taken))
    return drawn


def thumbnail(source: str | os.PathLike[str] | bytes, max_size: tuple[int, int]) -> Image.Image:
    """The picture in a file or its bytes, upright, RGB on white, scaled down to fit `max_size` (width, height) pixels.

    A JPEG is decoded no larger than that needs. Of a PDF it is the first page. Blocking. Raises InvalidPicture.
    """
    data, name = read_source(source, MAX_BYTES)
    longest = max(max_size)
    if is_pdf(data) and not isinstance(source, bytes):
        data = page_of(data, name, 1, PictureLimits(1, math.ceil(longest**2 / PATCH**2)))
    kind = kind_of(data, name)
    if kind == "HEIC":
        tokens = PictureLimits(1, max(math.ceil(longest**2 / PATCH**2), 1))
        apart = decode_safely(data, name, tokens, MAX_PIXELS)
        picture = Image.frombytes("RGB", apart.size, apart.rgb)
        return picture.resize(_fitting(apart.original_size, max_size), Image.Resampling.BICUBIC)
    with decoding:
        picture = whole(data, kind, name, MAX_PIXELS, at_least=2 * longest)
    return picture.resize(_fitting(picture.size, max_size), Image.Resampling.BICUBIC, reducing_gap=3)


def of_picture(picture: Picture) -> Image.Image:
    """What the model sees of a picture, of two frames the later one, in the size of its original."""
    size = picture.width, picture.height
    seen = Image.frombytes("RGB", size, picture.rgb[-3 * picture.width * picture.height :])
    return seen.resize(picture.original_size, Image.Resampling.BICUBIC)


def original(source: Source, limits: PictureLimits) -> Image.Image:
    """The picture that `load_picture` reads with these `limits`, upright, RGB on white, in its own size.

    That is the frame of `Picture.original_size` and of boxes. Blocking. Raises InvalidPicture.
    """
    data, name = read_page(source, limits, MAX_BYTES)
    kind = kind_of(data, name)
    if kind == "HEIC":
        apart = decode_safely(data, name, PictureLimits(1, math.ceil(MAX_PIXELS / PATCH**2)), MAX_PIXELS)
        picture = Image.frombytes("RGB", apart.size, apart.rgb)
        return picture.resize(apart.original_size, Image.Resampling.BICUBIC)
    with decoding:
        return whole(data, kind, name, MAX_PIXELS)


def _disc(point: Point, radius: int, size: tuple[int, int]) -> Box:
    """Where a point's disc stands: all of it inside the picture, as far as it is large enough."""
    x = min(max(point.x, radius), max(size[0] - 1 - radius, radius))
    y = min(max(point.y, radius), max(size[1] - 1 - radius, radius))
    return Box(point.label, x - radius, y - radius, x + radius, y + radius)


def _fitting(size: tuple[int, int], max_size: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape within `max_size`, never larger than `size`, no side below one pixel."""
    scale = min(1.0, *(limit / side for limit, side in zip(max_size, size, strict=True)))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _colours(boxes: Sequence[Box]) -> list[Colour]:
    labels = list(dict.fromkeys(box.label for box in boxes))
    places = [labels.index(box.label) for box in boxes] if len(labels) > 1 else range(len(boxes))
    return [COLOURS[place % len(COLOURS)] for place in places]


def _area(box: Box) -> int:
    return (box.x2 - box.x1) * (box.y2 - box.y1)


def _within(box: Box, size: tuple[int, int]) -> Rectangle:
    """The box as Pillow draws it, edges included, with at least a pixel of it inside the picture."""
    width, height = size
    x1, y1 = min(max(box.x1, 0), width - 1), min(max(box.y1, 0), height - 1)
    return x1, y1, min(max(box.x2 - 1, x1), width - 1), min(max(box.y2 - 1, y1), height - 1)


def _outline(draw: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, diagonal: float) -> None:
    """White outside, black inside, the colour between, all within the box so that touching boxes stay apart."""
    x1, y1, x2, y2 = box
    line = int(min(max(diagonal / 400, 2), min(x2 - x1, y2 - y1) / 12))
    if line < 1:  # a box of a few pixels: an edge would fill it
        draw.rectangle(box, outline=colour)
        return
    edge = max(round(line / 3), 1)
    draw.rectangle((x1, y1, x2, y2), outline=_WHITE, width=edge)
    inner = 2 * edge + line
    draw.rectangle((x1 + edge, y1 + edge, x2 - edge, y2 - edge), outline=_BLACK, width=inner - edge)
    draw.rectangle((x1 + edge, y1 + edge, x2 - edge, y2 - edge), outline=colour, width=line)


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: Box,
    colour: Colour,
    lettering: Lettering,
    size: tuple[int, int],
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Draw a label, and where it now stands."""
    padding = max(round(lettering.size * _PADDING), 1)
    text = lettering.shortened(text, size[0] - 2 * padding)
    width, height = lettering.width(text) + 2 * padding, lettering.height + 2 * padding
    place = _place(box, width, height, size, taken)
    draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour, outline=_WHITE)
    ink = _BLACK if _is_light(colour) else _WHITE
    baseline = place[1] + padding + lettering.baseline
    draw.text((place[0] + padding, baseline), text, fill=ink, font=lettering.font(text), anchor="ls")
    return place


def _place(box: Box, width: int, height: int, size: tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """The first place that is free, else the first: above the box, below it, inside it above, inside it below."""
    left, right = box.x1, box.x2 - width
    places = []
    for x, y in (
        (left, box.y1 - height),
        (right, box.y1 - height),
        (left, box.y2),
        (right, box.y2),
        (left, box.y1),
        (left, box.y2 - height),
    ):
        if 0 <= y <= size[1] - height:
            x = min(max(x, 0), max(size[0] - width, 0))
            places.append((x, y, min(x + width, size[0]), y + height))
    if not places:
        y = min(max(box.y1, 0), max(size[1] - height, 0))
        x = min(max(left, 0), max(size[0] - width, 0))
        places.append((x, y, min(x + width, size[0]), min(y + height, size[1])))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _is_light(colour: Colour) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue > 120
