"""Drawn scenes for tests, by the same code that drew what `pocket` learnt from, with seeds it never saw."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from gguf_vl.media.pictures import load_picture
from gguf_vl.types import Picture, PictureLimits

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "pocket"))

from draw import HELD_OUT_SEEDS, Scene, draw_scene

POCKET_LIMITS = PictureLimits(16, 1024)


def scene(*things: str, size: int | tuple[int, int] = 256, seed: int = 0) -> Scene:
    """A scene of these things ("red circle", …) without a word, `size` pixels wide and high."""
    wide = size if isinstance(size, tuple) else (size, size)
    shapes = [(kind, colour) for colour, kind in (thing.split() for thing in things)]
    return draw_scene(HELD_OUT_SEEDS[500_000_000 + seed], size=wide, shapes=shapes, with_word=False, fonts=())


def png(drawn: Scene) -> bytes:
    """The scene's picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    drawn.picture.save(buffer, "PNG")
    return buffer.getvalue()


def the_picture(*things: str, size: int | tuple[int, int] = 256, seed: int = 0) -> Picture:
    """The scene as the engine takes it."""
    return load_picture(png(scene(*things, size=size, seed=seed)), POCKET_LIMITS)
