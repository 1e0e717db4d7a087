"""Qwen3-VL's boxes and points in an answer, as pixels of the original picture.

The model writes `{"bbox_2d": [x1, y1, x2, y2], "label": "…"}` or `{"point_2d": [x, y], "label": "…"}`, one object or a
list, bare or in a ```json fence, and in documents `data-bbox="x1 y1 x2 y2"`; with coordinates from 0 to 1000 along each
axis whatever the picture's size (Qwen3-VL's cookbooks: 2D grounding, OCR, document parsing).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SCALE = 1000
"""The model's coordinate of the right and of the lower edge."""

_JSON = json.JSONDecoder(strict=False)  # a line break inside a label is no reason to lose its box
_LABELS = ("label", "text_content", "text", "name", "标签", "名称", "文本", "文字")
"""What names a box, the first that is there: `text_content` is what it writes when it reads text."""
_QUOTES = "\"'“”"
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_NUMBERS = re.compile(_NUMBER)
_NOT_QUITE = re.compile(
    rf"[{_QUOTES}]?(bbox_2d|point_2d)[{_QUOTES}]?\s*[:：]\s*[\[(]\s*({_NUMBER}(?:\s*[,，]\s*{_NUMBER})+)\s*[\])]"
)
_NAMED = re.compile(
    rf"[{_QUOTES}](?:{'|'.join(_LABELS)})[{_QUOTES}]\s*[:：]\s*[{_QUOTES}]([^{{}}]*?)[{_QUOTES}]?\s*(?:[,，]\s*)?[,，}}\]]"
)
_MARKED_UP = re.compile(
    r"<(?P<tag>[a-z][a-z0-9]{0,15})\b(?P<before>[^<>]{0,500}?)"
    rf'\bdata-bbox="(?P<box>{_NUMBER}(?:[ ,]+{_NUMBER}){{3}})"'
)
_CLASS = re.compile(r'\bclass="([^"]*)"')


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
    found = [
        Box(label, *_corners(each, original_size))
        for holder in _objects(answer, "bbox_2d")
        for label, each in _places(holder, "bbox_2d", 4)
    ]
    return found or [
        Box(_tag(each), *_corners([float(number) for number in _NUMBERS.findall(each["box"])], original_size))
        for each in _MARKED_UP.finditer(answer)
    ]


def find_points(answer: str, original_size: tuple[int, int]) -> list[Point]:
    """Every complete point in `answer`; otherwise as `find_boxes`."""
    width, height = original_size
    return [
        Point(label, _to_pixel(x, width), _to_pixel(y, height))
        for holder in _objects(answer, "point_2d")
        for label, (x, y) in _places(holder, "point_2d", 2)
    ]


def _objects(text: str, key: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that hold `key`, however deep they stand in other JSON, and what was meant as such."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1  # not JSON, or cut off: whole objects may stand further in
            if meant := _meant(text, at, key):
                yield meant
        else:
            yield from _holders(value, key)
        at = text.find("{", end)


def _holders(value: object, key: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if key in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _holders(inner, key)


def _meant(text: str, start: int, key: str) -> dict[str, Any] | None:
    """A closed object that is not quite JSON: wrong quotes, a comma too many, a quote too few."""
    end = text.find("}", start)
    inside = text[start : end + 1]
    if end < 0 or "{" in inside[1:]:
        return None
    for found in _NOT_QUITE.finditer(inside):
        if found[1] == key:
            named = _NAMED.search(inside)
            return {
                key: [float(number) for number in _NUMBERS.findall(found[2])],
                "label": named[1] if named else "",
            }
    return None


def _places(holder: dict[str, Any], key: str, n: int) -> Iterator[tuple[str, list[float]]]:
    """(label, `n` coordinates) of every place that an object names: one, or a list of them."""
    value = holder[key]
    named = next((holder[name] for name in _LABELS if name in holder), "")
    label = named if isinstance(named, str) else json.dumps(named, ensure_ascii=False)
    several = isinstance(value, list) and all(isinstance(each, list) for each in value)
    for each in value if several else [value]:
        if isinstance(each, list) and len(each) == n and all(_is_number(number) for number in each):
            yield label, each


def _tag(found: re.Match[str]) -> str:
    """What a document's element is: its class where it has one, else its tag."""
    named = _CLASS.search(found["before"])
    return named[1] if named else found["tag"]


def _corners(value: list[float], original_size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = original_size
    x1, x2 = sorted(_to_pixel(each, width) for each in value[0::2])
    y1, y2 = sorted(_to_pixel(each, height) for each in value[1::2])
    return x1, y1, x2, y2


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _to_pixel(value: float, side: int) -> int:
    """A coordinate of the model on a side of `side` pixels."""
    return round(min(max(value, 0), SCALE) * side / SCALE)
