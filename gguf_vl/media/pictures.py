"""`load_picture`: one picture from wherever it is, exactly as the model will see it."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings

from PIL import Image

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.formats import kind_of, parser_of
from gguf_vl.media.pixels import rgb_on_white, upright
from gguf_vl.media.resize import fit_size
from gguf_vl.media.sources import Source, read_source
from gguf_vl.types import Picture, PictureLimits

MAX_PIXELS = 120_000_000
"""Pixels of the original: a 108-megapixel phone passes. Decoding takes 4 bytes a pixel, up to three times over."""

MAX_BYTES = 128 * 2**20
"""Bytes of the file: an uncompressed A4 scan at 600 dpi (100 MB) passes."""

# One full-size picture at a time bounds the memory of a busy server, and makes `warnings.catch_warnings` safe here.
_decoding = threading.Lock()


def load_picture(
    source: Source, limits: PictureLimits, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Picture:
    """The picture in `source`, upright, RGB on white, resized by `fit_size` (Pillow bicubic) to tokens within `limits`.

    `source` is a path, a `data:` URI, bytes or a binary stream. A str that a stranger sent may be a path on this
    machine: a server must hand over bytes (see `sources.decode_data_uri`). Reads JPEG, PNG, WebP, GIF (first frame),
    BMP, TIFF (first page), AVIF, and HEIC where pi-heif is installed. Blocking; safe in threads, which decode one
    after the other.

    Raises InvalidPicture for all that cannot be read, and before any decoding for more than `max_bytes` bytes or
    `max_pixels` pixels.
    """
    data, name = read_source(source, max_bytes)
    kind = kind_of(data, name)
    with _decoding:
        shown, original_size = _decode(data, kind, name, limits, max_pixels)
    rgb = shown.tobytes()
    return Picture(rgb, shown.width, shown.height, original_size, _digest(shown.size, rgb))


def _decode(
    data: bytes, kind: str, name: str, limits: PictureLimits, max_pixels: int
) -> tuple[Image.Image, tuple[int, int]]:
    """The resized RGB picture, and the upright original's size in pixels."""
    parser = parser_of(kind, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken metadata, which nobody here can mend
            with parser(io.BytesIO(data)) as opened:
                _check_pixels(opened.size, max_pixels, name)
                opened.load()
                picture = rgb_on_white(upright(opened))
    except InvalidPicture:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("more", max_pixels, name) from error
    except MemoryError as error:
        raise InvalidPicture(f"There is not enough memory to decode {name}.", "Save the picture smaller.") from error
    except Exception as error:  # on hostile bytes the parsers raise anything at all
        raise _unreadable(error, kind, name) from error
    size = fit_size(picture.width, picture.height, limits)
    return picture.resize(size, Image.Resampling.BICUBIC), picture.size


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
    reason = " ".join(str(error).split()) or type(error).__name__
    return InvalidPicture(
        f"{name} starts like a {kind} picture but cannot be read: cut off, damaged or of a rare kind ({reason[:100]}).",
        "Download or copy it again, or save it as PNG from another program.",
    )


def _digest(size: tuple[int, int], rgb: bytes) -> str:
    """SHA-256, in hex, of width and height (each 4 bytes, little-endian) followed by the pixels."""
    digest = hashlib.sha256(b"".join(side.to_bytes(4, "little") for side in size))
    digest.update(rgb)
    return digest.hexdigest()
