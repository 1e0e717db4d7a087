"""From a file's bytes, of a format already known, to the pixels that the model sees."""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

from PIL import Image

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.formats import parser_of
from gguf_vl.media.pixels import rgb_on_white, upright
from gguf_vl.media.resize import fit_size
from gguf_vl.media.sources import on_one_line
from gguf_vl.types import PictureLimits


class Decoded(NamedTuple):
    """`rgb` is [height, width, 3] uint8; `size` and `original_size` (upright) are (width, height) in pixels."""

    rgb: bytes
    size: tuple[int, int]
    original_size: tuple[int, int]


def decode(data: bytes, kind: str, name: str, limits: PictureLimits, max_pixels: int) -> Decoded:
    """The picture that `data` holds in the format `kind`, upright, on white and resized. Not for two threads at once.

    Raises InvalidPicture, speaking of `name`, for what cannot be read and, before decoding, for more than `max_pixels`.
    """
    picture = whole(data, kind, name, max_pixels)
    size = fit_size(picture.width, picture.height, limits)
    return Decoded(picture.resize(size, Image.Resampling.BICUBIC).tobytes(), size, picture.size)


def whole(data: bytes, kind: str, name: str, max_pixels: int, *, at_least: int | None = None) -> Image.Image:
    """The picture that `data` holds, upright and on white, in its own size. Not for two threads at once.

    With `at_least`, pixels that both sides should keep, a JPEG is decoded no larger than it needs, which is quicker.
    Raises as `decode` does.
    """
    parser = parser_of(kind, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which nobody here can mend
            with parser(io.BytesIO(data)) as opened:
                _check_pixels(opened.size, max_pixels, name)
                if at_least is not None:
                    opened.draft(None, (at_least, at_least))
                opened.load()
                return rgb_on_white(upright(opened))
    except InvalidPicture:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("more", max_pixels, name) from error
    except MemoryError as error:
        raise InvalidPicture(f"There is not enough memory to decode {name}.", "Save the picture smaller.") from error
    except Exception as error:  # on hostile bytes the parsers raise anything at all
        raise _unreadable(error, kind, name) from error


def _check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width} x {height} pixels, more", max_pixels, name)


def _too_many_pixels(how_many: str, max_pixels: int, name: str) -> InvalidPicture:
    return InvalidPicture(
        f"{name} has {how_many} than the {max_pixels / 1e6:g} megapixels that one picture may have.",
        "Cut out the part that matters, or save it smaller.",
    )


def _unreadable(error: Exception, kind: str, name: str) -> InvalidPicture:
    if (
        str(error) == "not identified by this driver"
    ):  # Pillow's words for a header that it could read and that promises nothing
        return InvalidPicture(
            f"{name} is a {kind} file of 0 pixels, or its header is damaged.", "Save or download the picture again."
        )
    reason = on_one_line(str(error) or type(error).__name__)
    return InvalidPicture(
        f"{name} starts like a {kind} picture but cannot be read: cut off, damaged or of a rare kind ({reason}).",
        "Download or copy it again, or save it as PNG from another program.",
    )
