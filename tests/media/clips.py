"""Videos drawn for the tests, as files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

Drawn = tuple[float, Image.Image]
"""When a frame begins to be seen, in seconds, and the frame."""


def clip(
    path: Path,
    frames: Sequence[Drawn],
    *,
    codec: str = "libx264",
    rate: int = 10,
    rotation: int = 0,
    key_every: int = 12,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """A video of these frames by their own times, which need not be regular; its kind is that of the path's name."""
    with av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"crf": "12"})
        stream.width, stream.height = frames[0][1].size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = key_every
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for time, picture in frames:
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(pictures: Sequence[Image.Image], each_s: float, *, rate: int = 10) -> list[Drawn]:
    """Frames at a steady rate that show each of the pictures for so many seconds."""
    n = round(each_s * rate)
    return [((place * n + step) / rate, picture) for place, picture in enumerate(pictures) for step in range(n)]
