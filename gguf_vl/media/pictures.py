"""`load_picture`: one picture from wherever it is, exactly as the model will see it."""

from __future__ import annotations

import hashlib
import threading

from gguf_vl.media.apart import decode_apart
from gguf_vl.media.decode import Decoded, decode
from gguf_vl.media.formats import kind_of
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
        decoded = (decode_apart if kind == "HEIC" else decode)(data, kind, name, limits, max_pixels)
    return Picture(decoded.rgb, *decoded.size, decoded.original_size, _digest(decoded))


def _digest(decoded: Decoded) -> str:
    """SHA-256, in hex, of width and height (each 4 bytes, little-endian) followed by the pixels."""
    digest = hashlib.sha256(b"".join(side.to_bytes(4, "little") for side in decoded.size))
    digest.update(decoded.rgb)
    return digest.hexdigest()
