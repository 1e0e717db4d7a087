"""Videos drawn for the tests, as files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw

Drawn = tuple[float, Image.Image]
"""When a frame begins to be seen, in seconds, and the frame."""


def clip(
    path: Path,
    frames: Sequence[Drawn],
    *,
    codec: str = "libx264",
    rate: int = 10,
    ticks: int = 1000,
    rotation: int = 0,
    key_every: int = 12,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """A video of these frames by their own times, which need not be regular, in so many `ticks` of a second. Its kind
    is that of the path's name.
    """
    with av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"crf": "12"})
        stream.width, stream.height = frames[0][1].size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = key_every
        stream.codec_context.time_base = Fraction(1, ticks)
        stream.time_base = Fraction(1, ticks)
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for time, picture in frames:
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = round(time * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(pictures: Sequence[Image.Image], each_s: float, *, rate: int = 10) -> list[Drawn]:
    """Frames at a steady rate that show each of the pictures for so many seconds."""
    n = round(each_s * rate)
    return [((place * n + step) / rate, picture) for place, picture in enumerate(pictures) for step in range(n)]


MOVING = (
    (0.0, "The picture is empty."),
    (1.0, "A red circle in the middle left."),
    (2.23, "A red circle in the center."),
    (3.0, "A red circle in the center, a blue square in the bottom center."),
    (4.27, "A red circle in the middle right, a blue square in the bottom center."),
    (5.0, "A red circle in the middle right."),
)
"""When what begins to be seen in the drawing `moving`, in pocket's words; its places are thirds of the picture."""


def moving() -> list[Drawn]:
    """Six seconds, ten frames each: a red circle appears on the left at 1 s, goes to the middle from 2 to 2.5 s and to
    the right from 4 to 4.5 s. From 3 to 5 s there is a blue square at the bottom.
    """
    frames: list[Drawn] = []
    for step in range(60):
        time = step / 10
        picture = Image.new("RGB", (256, 256), "white")
        draw = ImageDraw.Draw(picture)
        if time >= 1:
            x = 50 + 156 * (min(0.5, max(0.0, time - 2)) + min(0.5, max(0.0, time - 4)))
            draw.ellipse((x - 30, 98, x + 30, 158), fill=(225, 30, 40))
        if 3 <= time < 5:
            draw.rectangle((98, 190, 158, 250), fill=(35, 80, 220))
        frames.append((time, picture))
    return frames
