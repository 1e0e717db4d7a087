"""Qwen3-VL's boxes in an answer, as pixels of the original picture.

The model writes `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}`, one object or a list, bare or in a ```json fence, with
coordinates from 0 to 1000 along each axis whatever the picture's size (Qwen3-VL cookbook, 2D grounding).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

SCALE = 1000
"""The model's coordinate of the right and of the lower edge."""

_JSON = json.JSONDecoder(strict=False)  # a line break inside a label is no reason to lose its box


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle in pixels of the original picture, x1 <= x2 and y1 <= y2.

    Edges as in Pillow's `crop`: (x1, y1) is the first pixel inside, (x2, y2) the first outside, to the right and below.
    """

    label: str
    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled place in pixels of the original picture: x from its left edge, y from its upper one."""

    label: str
    x: int
    y: int


def find_boxes(answer: str, original_size: tuple[int, int]) -> list[Box]:
    """Every complete box in `answer`, in its order, mapped to a picture of `original_size` (width, height) pixels.

    Text around the boxes is passed over, and a tail that was cut off costs only the box it cut. Coordinates outside
    0 to 1000 are clamped and swapped corners put in order. What is not a box is no error: it is left out.
    """
    return [box for found in _objects(answer) if (box := _box(found, original_size))]


def find_points(answer: str, original_size: tuple[int, int]) -> list[Point]:
    """Every complete point in `answer`; otherwise as `find_boxes`."""
    raise NotImplementedError


def _objects(text: str) -> Iterator[dict[str, object]]:
    """The JSON objects that hold a `bbox_2d`, however deep they stand in other JSON."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1  # not JSON, or cut off: whole objects may stand further in
        else:
            yield from _holders(value)
        at = text.find("{", end)


def _holders(value: object) -> Iterator[dict[str, object]]:
    if isinstance(value, dict):
        if "bbox_2d" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _holders(inner)


def _box(found: dict[str, object], original_size: tuple[int, int]) -> Box | None:
    corners = found["bbox_2d"]
    if not isinstance(corners, list) or len(corners) != 4 or not all(_is_number(value) for value in corners):
        return None
    width, height = original_size
    xs = sorted(_to_pixel(value, width) for value in corners[0::2])
    ys = sorted(_to_pixel(value, height) for value in corners[1::2])
    label = found.get("label", found.get("text_content", ""))  # the second is what it writes when it reads text
    return Box(label if isinstance(label, str) else json.dumps(label), xs[0], ys[0], xs[1], ys[1])


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _to_pixel(value: float, side: int) -> int:
    """A coordinate of the model on a side of `side` pixels."""
    return round(min(max(value, 0), SCALE) * side / SCALE)
