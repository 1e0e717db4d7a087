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

MAX_PAGES = 10_000
"""Pages of a TIFF that are looked at."""

_SUBFILE_TYPE = 254
_NO_PAGE = 0b101
"""TIFF 6.0, NewSubfileType: bit 0 is a copy of smaller size, bit 2 a mask."""


class Decoded(NamedTuple):
    """`rgb` is [height, width, 3] uint8; `size` and `original_size` (upright) are (width, height) in pixels."""

    rgb: bytes
    size: tuple[int, int]
    original_size: tuple[int, int]


def decode(data: bytes, kind: str, name: str, limits: PictureLimits, max_pixels: int, *, page: int = 0) -> Decoded:
    """The picture that `data` holds in the format `kind`, upright, on white and resized. Not for two threads at once.

    Of a TIFF it is the `page` of that number, from 0.

    Raises InvalidPicture, speaking of `name`, for what cannot be read and, before decoding, for more than `max_pixels`.
    """
    picture = whole(data, kind, name, max_pixels, page=page)
    size = fit_size(picture.width, picture.height, limits)
    return Decoded(picture.resize(size, Image.Resampling.BICUBIC).tobytes(), size, picture.size)


def whole(
    data: bytes, kind: str, name: str, max_pixels: int, *, at_least: int | None = None, page: int = 0
) -> Image.Image:
    """The picture that `data` holds, upright and on white, in its own size. Not for two threads at once.

    With `at_least`, pixels that both sides should keep, a JPEG is decoded no larger than it needs, which is quicker.
    Raises as `decode` does.
    """
    parser = parser_of(kind, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which nobody here can mend
            with parser(io.BytesIO(data)) as opened:
                if page:
                    opened.seek(page)
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


def pages_of_tiff(data: bytes, name: str) -> tuple[int, ...]:
    """The places in a TIFF of its pages; smaller copies of a page and masks, which some programs add, are none.

    Raises InvalidPicture, speaking of `name`, for one whose header is damaged. What is cut off ends the list. Not for
    two threads at once.
    """
    parser = parser_of("TIFF", name)
    found: list[int] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with parser(io.BytesIO(data)) as opened:
                for place in range(MAX_PAGES):
                    try:
                        opened.seek(place)
                    except EOFError:
                        break
                    if not int(opened.tag_v2.get(_SUBFILE_TYPE, 0)) & _NO_PAGE:
                        found.append(place)
    except Exception as error:  # as in `whole`
        if not found:
            raise _unreadable(error, "TIFF", name) from error
    return tuple(found) or (0,)


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
