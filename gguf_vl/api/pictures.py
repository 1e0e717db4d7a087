"""From what a program has of a picture to what is read of it."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

from gguf_vl.errors import InvalidPicture
from gguf_vl.types import Picture, PictureLimits

if TYPE_CHECKING:
    from PIL import Image

    from gguf_vl.media.sources import Source


class Pixels(Protocol):
    """A Pillow image or a NumPy array, neither of which is imported for this."""

    @property
    def __array_interface__(self) -> Any:
        """Where its pixels are."""


PictureSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Pixels
"""A picture, a document or a video: a path (with pages behind it too: `report.pdf#2-5`), a `data:` URI, a file's bytes
or a binary stream; or a Pillow image, or a NumPy array of uint8, [height, width] or [height, width, 3 or 4]. A text is
a path on this machine: of what strangers send, give the bytes.
"""


def to_source(source: PictureSource, limits: PictureLimits) -> Source | Picture:
    """What `media.shown.show` takes: pixels as a picture, upright as its EXIF says, with image tokens within `limits`;
    anything else as it is. Blocking; safe in threads. Raises `InvalidPicture`.
    """
    if hasattr(source, "__array_interface__"):
        from gguf_vl.media.pictures import MAX_PIXELS, load_picture

        return load_picture(_as_file(source), limits, max_bytes=4 * MAX_PIXELS)
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read"):
        return source
    raise InvalidPicture(
        f"A {type(source).__name__} is no picture.", "Give a path, bytes, a Pillow image or a NumPy array."
    )


def is_video(source: PictureSource) -> bool:
    """Whether a path or bytes are a video. Looks at the disk; of a stream it is not known."""
    from gguf_vl.media import video
    from gguf_vl.media.formats import video_in

    if isinstance(source, bytes):
        return video_in(source[:1024]) is not None
    return isinstance(source, (str, os.PathLike)) and video.is_video(Path(source))


def _as_file(pixels: Any) -> bytes:
    """Pixels in memory as an uncompressed file, for the one way that pictures go."""
    from PIL import Image

    from gguf_vl.media.pictures import decoding
    from gguf_vl.media.pixels import rgb_on_white, upright

    file = BytesIO()
    try:
        image: Image.Image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        with decoding:
            image.load()
            rgb_on_white(upright(image)).save(file, "BMP")
    except Exception as error:  # on what they cannot read, Pillow's parsers raise anything at all
        raise InvalidPicture(
            f"{_named(pixels)} cannot be read: {str(error) or type(error).__name__}.",
            "Give a Pillow image that is open, or an array of uint8: [height, width, 3].",
        ) from error
    return file.getvalue()


def _named(pixels: Any) -> str:
    shape, dtype = getattr(pixels, "shape", None), getattr(pixels, "dtype", None)
    return "The Pillow image" if shape is None else f"The array of {dtype} {list(shape)}"
