"""Draws the scenes that are pocket's whole world, and knows what is in them.

Standard library, numpy and Pillow only: the tests draw with it too. A scene is fixed by its seed (and by the fonts of
the machine, where it holds a word). No question is asked here: see `questions`.
"""

from __future__ import annotations

import colorsys
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = ("circle", "square", "triangle", "star")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black")
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
CELL = 32
"""Pixels per side of what one image token covers."""

# Hue in degrees, saturation and value, each as the ranges a shade is drawn from. The gaps between colours are
# deliberate: no shade here could be argued about.
_SHADES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 7), (0.78, 1.0), (0.80, 1.0)),
    "orange": ((23, 39), (0.80, 1.0), (0.92, 1.0)),
    "yellow": ((51, 61), (0.65, 1.0), (0.92, 1.0)),
    "green": ((95, 150), (0.50, 1.0), (0.40, 0.90)),
    "blue": ((205, 241), (0.65, 1.0), (0.55, 1.0)),
    "purple": ((268, 301), (0.55, 1.0), (0.42, 0.78)),
    "pink": ((326, 347), (0.25, 0.58), (0.95, 1.0)),
    "brown": ((10, 31), (0.55, 0.88), (0.36, 0.60)),
    "black": ((0, 360), (0.0, 0.25), (0.0, 0.15)),
}
_FONT_NAMES = re.compile(
    r"^(DejaVuS|Liberation|Free(Mono|Sans|Serif)|Roboto|Lato|OpenSans|Hack|Noto(Sans|Serif)-|Carlito|Caladea|Inconsolata"
    r"|Nimbus|C059|P052|Arial|Helvetica|Verdana|Courier|Georgia|Times|Tahoma)(?!.*(Hairline|Thin|ExtraLight|Math|Symbol))"
)
_FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts", "~/.fonts")
_TEXT_COLOURS = ((0, 0, 0), (40, 40, 40), (60, 60, 70), (20, 30, 80), (90, 30, 30), (20, 70, 40))
_MIN_ADVANCE = 11.0
"""Least pixels from one character to the next: smaller ones cannot be read through 32-pixel cells."""

HELD_OUT_SEEDS = range(1 << 30)
TRAINING_SEEDS = range(1 << 30, 1 << 32)
"""Tests and measurements draw from the first range, training from the second."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn shape: its kind, the name of its colour and its tight box in pixels."""

    kind: str
    colour: str
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box, pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True, slots=True)
class Word:
    """A printed word and one box in pixels per character."""

    text: str
    boxes: tuple[Box, ...]


@dataclass(slots=True)
class Scene:
    """A picture and everything that is in it."""

    picture: Image.Image
    shapes: list[Shape] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    """At most one, but on a page."""

    @property
    def word(self) -> str | None:
        """The printed word, if there is one."""
        return self.words[0].text if self.words else None

    def resized(self, size: tuple[int, int]) -> Scene:
        """The scene with its picture resized (bicubic) to width and height in pixels, and every box with it."""
        across, down = size[0] / self.picture.width, size[1] / self.picture.height

        def scaled(box: Box) -> Box:
            return box[0] * across, box[1] * down, box[2] * across, box[3] * down

        return Scene(
            self.picture.resize(size, Image.Resampling.BICUBIC),
            [replace(shape, box=scaled(shape.box)) for shape in self.shapes],
            [Word(word.text, tuple(map(scaled, word.boxes))) for word in self.words],
        )


@lru_cache(maxsize=1)
def font_files() -> tuple[str, ...]:
    """Legible fonts found on this machine, sorted by file name; may be empty."""
    found = {}
    for folder in _FONT_FOLDERS:
        for path in Path(folder).expanduser().rglob("*"):
            if path.suffix.lower() in (".ttf", ".otf") and _FONT_NAMES.match(path.name):
                found[path.name] = str(path)
    return tuple(found[name] for name in sorted(found))


@lru_cache(maxsize=512)
def _font(path: str | None, size: int) -> ImageFont.FreeTypeFont:
    if path is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    return ImageFont.truetype(path, size)


def draw_scene(
    seed: int,
    *,
    size: tuple[int, int] | None = None,
    n_shapes: int | None = None,
    with_word: bool | None = None,
    shapes: Sequence[tuple[str, str]] | None = None,
    fonts: Sequence[str] | None = None,
) -> Scene:
    """Draws the scene of `seed`. What is not given is chosen by the seed.

    `size` is width and height in pixels; `shapes` fixes the (kind, colour) pairs; `fonts` the font files for the
    word, where an empty sequence means Pillow's built-in font. A crowded small picture may hold fewer shapes than
    asked for.
    """
    rng = random.Random(seed)
    width, height = size or random_size(rng)
    picture = _background(rng, width, height)
    scene = Scene(picture)
    if n_shapes is None:
        n_shapes = rng.choices((0, 1, 2, 3, 4), (3, 24, 28, 27, 18))[0]
    wanted = list(shapes) if shapes is not None else [(rng.choice(KINDS), rng.choice(COLOURS)) for _ in range(n_shapes)]
    if with_word is None:
        with_word = rng.random() < 0.45
    taken: list[Box] = []
    if with_word:
        _add_word(rng, scene, fonts if fonts is not None else font_files(), taken, crowded=len(wanted) > 2)
    for number, (kind, colour) in enumerate(wanted):
        _add_shape(rng, scene, kind, colour, taken, len(wanted) - number)
    return scene


def draw_page(seed: int, size: tuple[int, int]) -> Scene:
    """A picture crowded with words and shapes, to learn to see from: no question is asked about it."""
    rng = random.Random(seed)
    scene = Scene(_background(rng, *size))
    taken: list[Box] = []
    n_words = rng.randint(2, max(3, size[0] * size[1] // (5 * CELL**2)))
    for number in range(n_words):
        _add_word(rng, scene, font_files(), taken, crowded=number > 0)
        if len(scene.words) < number - 3:
            break
    for _ in range(rng.choice((0, 0, 2, 6))):
        _add_shape(rng, scene, rng.choice(KINDS), rng.choice(COLOURS), taken, 6)
    return scene


def random_size(rng: random.Random, least: int = 16, most: int = 256) -> tuple[int, int]:
    """Width and height in pixels, multiples of 32: `least` to `most` image tokens, at most 4 times as long as wide."""
    while True:
        tokens = math.exp(rng.uniform(math.log(least), math.log(most + 1)))
        ratio = math.exp(rng.gauss(0, 0.4))
        columns, rows = round(math.sqrt(tokens * ratio)), round(math.sqrt(tokens / ratio))
        if least <= columns * rows <= most and max(columns, rows) <= 4 * min(columns, rows):
            return columns * CELL, rows * CELL


def _background(rng: random.Random, width: int, height: int) -> Image.Image:
    first = _light(rng)
    if rng.random() < 0.6:
        return Image.new("RGB", (width, height), first)
    second = _light(rng)
    angle = rng.uniform(0, 2 * math.pi)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * math.cos(angle)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * math.sin(angle)
    mix = np.clip((across + down) / 2 + 0.5, 0, 1)[..., None]
    shaded = np.asarray(first, np.float32) * (1 - mix) + np.asarray(second, np.float32) * mix
    if rng.random() < 0.25:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 4), (height, width, 1))
        shaded = shaded + noise.astype(np.float32)
    return Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))


def _light(rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.3:
        return (255, 255, 255)
    return _rgb(rng.random(), rng.uniform(0, 0.10), rng.uniform(0.88, 1.0))


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def shade(rng: random.Random, colour: str) -> tuple[int, int, int]:
    """A red, green, blue triple that everybody calls `colour`."""
    hue, saturation, value = (rng.uniform(*part) for part in _SHADES[colour])
    return _rgb(hue / 360, saturation, value)


def _outline(kind: str, radius: float, turn: float) -> list[tuple[float, float]]:
    """Corners of a shape around (0, 0), pixels; `turn` in radians."""
    if kind == "square":
        return _corners([radius] * 4, turn + math.pi / 4)
    if kind == "triangle":
        return _corners([radius] * 3, turn - math.pi / 2)
    return _corners([radius, radius * 0.42] * 5, turn - math.pi / 2)


def _corners(radii: list[float], turn: float) -> list[tuple[float, float]]:
    step = 2 * math.pi / len(radii)
    return [(r * math.cos(turn + i * step), r * math.sin(turn + i * step)) for i, r in enumerate(radii)]


def _add_shape(rng: random.Random, scene: Scene, kind: str, colour: str, taken: list[Box], remaining: int) -> None:
    width, height = scene.picture.size
    unit = math.sqrt(width * height)
    largest = min(0.46 * min(width, height), 0.30 * unit)
    smallest = max(10.0, 0.065 * unit)
    for attempt in range(60):
        top = largest * (0.94**attempt) * (1.0 if remaining <= 2 else 0.8)
        radius = rng.uniform(smallest, max(smallest, top))
        turn = math.radians(rng.uniform(-12, 12)) if rng.random() < 0.5 else 0.0
        if kind == "circle":
            local: Box = (-radius, -radius, radius, radius)
        else:
            points = _outline(kind, radius, turn)
            xs, ys = [p[0] for p in points], [p[1] for p in points]
            local = (min(xs), min(ys), max(xs), max(ys))
        if local[2] - local[0] > width - 4 or local[3] - local[1] > height - 4:
            continue
        x = rng.uniform(1 - local[0], width - 1 - local[2])
        y = rng.uniform(1 - local[1], height - 1 - local[3])
        box = (x + local[0], y + local[1], x + local[2], y + local[3])
        if _between_thirds(box, width, height) or any(_near(box, other, 2.0) for other in taken):
            continue
        box = _paint(rng, scene.picture, kind, shade(rng, colour), (x, y), radius, turn)
        taken.append(box)
        scene.shapes.append(Shape(kind, colour, box))
        return


def _between_thirds(box: Box, width: int, height: int) -> bool:
    """Whether the middle of the box is so near to a line between thirds that its place could be argued about."""
    x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
    return any(abs(part - line) < 0.025 for part in (x, y) for line in (1 / 3, 2 / 3))


def _near(one: Box, other: Box, gap: float) -> bool:
    return one[0] < other[2] + gap and other[0] < one[2] + gap and one[1] < other[3] + gap and other[1] < one[3] + gap


def _paint(
    rng: random.Random,
    picture: Image.Image,
    kind: str,
    colour: tuple[int, int, int],
    centre: tuple[float, float],
    radius: float,
    turn: float,
) -> Box:
    """Paints one shape and returns the box of the pixels it changed."""
    scale = 1 if rng.random() < 0.3 else (4 if radius < 60 else 2)
    left, top = math.floor(centre[0] - radius) - 1, math.floor(centre[1] - radius) - 1
    side = math.ceil(2 * radius) + 4
    mask = Image.new("L", (side * scale, side * scale))
    pen = ImageDraw.Draw(mask)
    x, y = (centre[0] - left) * scale, (centre[1] - top) * scale
    if kind == "circle":
        r = radius * scale
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    else:
        pen.polygon([(x + px * scale, y + py * scale) for px, py in _outline(kind, radius, turn)], fill=255)
    if scale > 1:
        mask = mask.reduce(scale)
    picture.paste(colour, (left, top), mask)
    bounds = mask.point(lambda value: 255 if value > 63 else 0).getbbox() or (0, 0, side, side)
    width, height = picture.size
    return (
        max(0.0, left + bounds[0]),
        max(0.0, top + bounds[1]),
        min(float(width), left + bounds[2]),
        min(float(height), top + bounds[3]),
    )


def random_word(rng: random.Random, length: int | None = None) -> str:
    """One to six capitals and digits."""
    length = length or rng.choices((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 2, 2))[0]
    style = rng.random()
    letters = CHARACTERS if style < 0.5 else (CHARACTERS[:26] if style < 0.85 else CHARACTERS[26:])
    return "".join(rng.choice(letters) for _ in range(length))


def _add_word(rng: random.Random, scene: Scene, fonts: Sequence[str], taken: list[Box], crowded: bool) -> None:
    """Prints a word where it fits; leaves the scene without one where none does."""
    width, height = scene.picture.size
    for attempt in range(12):
        word = random_word(rng)
        path = None if not fonts or rng.random() < 0.08 else rng.choice(fonts)
        largest = max(16.0, min(height * (0.28 if crowded else 0.42), 0.26 * math.sqrt(width * height)) * 0.93**attempt)
        font = _font(path, round(math.exp(rng.uniform(math.log(15), math.log(max(18.0, largest))))))
        if font.getlength(word) / len(word) < _MIN_ADVANCE:
            continue
        left, top, right, bottom = font.getbbox(word, anchor="ls")
        if right - left > width - 6 or bottom - top > height - 6:
            continue
        for _ in range(6):
            x = round(rng.uniform(3 - left, width - 3 - right))
            y = round(rng.uniform(3 - top, height - 3 - bottom))
            box = (x + left - 3, y + top - 3, x + right + 3, y + bottom + 3)
            if not any(_near(box, other, 0.0) for other in taken):
                break
        else:
            continue
        ImageDraw.Draw(scene.picture).text((x, y), word, rng.choice(_TEXT_COLOURS), font=font, anchor="ls")
        taken.append(box)
        edges = [font.getlength(word[:i]) for i in range(len(word) + 1)]
        boxes = tuple((x + edges[i], float(y + top), x + edges[i + 1], float(y + bottom)) for i in range(len(word)))
        scene.words.append(Word(word, boxes))
        return
