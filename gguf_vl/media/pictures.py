"""`load_picture`: one picture from wherever it is, exactly as the model will see it."""

from __future__ import annotations

import hashlib
import io
import os
import threading

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import decode_apart
from gguf_vl.media.decode import Decoded, decode, pages_of_tiff, whole
from gguf_vl.media.formats import is_pdf, is_tiff, kind_of
from gguf_vl.media.pdf import check_page, page_of, split_page
from gguf_vl.media.sources import Source, read_source
from gguf_vl.types import Picture, PictureLimits

MAX_PIXELS = 120_000_000
"""Pixels of the original: a 108-megapixel phone passes. Decoding takes 4 bytes a pixel, up to three times over."""

MAX_BYTES = 128 * 2**20
"""Bytes of the file: an uncompressed A4 scan at 600 dpi (100 MB) passes."""

decoding = threading.Lock()
"""Held while a picture is decoded. One in full size at a time bounds the memory of a busy server, and makes
`warnings.catch_warnings` safe here."""


def load_picture(
    source: Source, limits: PictureLimits, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Picture:
    """The picture in `source`, upright, RGB on white, resized by `fit_size` (Pillow bicubic) to tokens within `limits`.

    `source` is a path, a `data:` URI, bytes or a binary stream. A str that a stranger sent may be a path on this
    machine: a server must hand over bytes (see `sources.decode_data_uri`). Reads JPEG, PNG, WebP, GIF (first frame),
    BMP, TIFF (first page), AVIF, HEIC where pi-heif is installed, and, by path alone, a page of a PDF or TIFF:
    `report.pdf#2`. For all pages of a document, and videos, see `shown`. Blocking; safe in threads, which decode one
    after the other.

    Raises InvalidPicture for all that cannot be read, and before any decoding for more than `max_bytes` bytes or
    `max_pixels` pixels.
    """
    data, name = read_page(source, limits, max_bytes)
    return picture_of(data, name, limits, max_pixels)


def picture_of(data: bytes, name: str, limits: PictureLimits, max_pixels: int = MAX_PIXELS, page: int = 0) -> Picture:
    """As `load_picture`, of a file's bytes that are called `name`; of a TIFF the `page` of that number, from 0."""
    decoded = decode_safely(data, name, limits, max_pixels, page)
    return Picture(decoded.rgb, *decoded.size, decoded.original_size, digest_of(decoded.size, decoded.rgb))


def read_page(source: Source, limits: PictureLimits, max_bytes: int) -> tuple[bytes, str]:
    """As `read_source`; what a path names may also be a page of a PDF or a TIFF, which comes as PNG.

    Documents that were sent as bytes are not drawn: they may be a stranger's.
    """
    where, number = split_page(source)
    data, name = read_source(where, max_bytes)
    if isinstance(where, (str, os.PathLike)) and is_pdf(data) and not _is_data_uri(where):
        return page_of(data, name, number, limits), name if number is None else f"{name}#{number}"
    if number is not None and is_tiff(data):
        return _tiff_page(data, name, number), f"{name}#{number}"
    if number is not None:
        raise InvalidPicture(f"{name} is no document, and has no page {number}.", "Give the file without its #.")
    return data, name


def tiff_pages(data: bytes, name: str) -> tuple[int, ...]:
    """`pages_of_tiff`, safe in threads."""
    with decoding:
        return pages_of_tiff(data, name)


def _tiff_page(data: bytes, name: str, number: int) -> bytes:
    """Page `number`, from 1, in its own size."""
    pages = tiff_pages(data, name)
    check_page(name, number, len(pages))
    png = io.BytesIO()
    with decoding:
        whole(data, "TIFF", name, MAX_PIXELS, page=pages[number - 1]).save(png, "PNG", compress_level=1)
    return png.getvalue()


def decode_safely(data: bytes, name: str, limits: PictureLimits, max_pixels: int, page: int = 0) -> Decoded:
    """`decode`, of what `data` is by its first bytes, safe in threads and from parsers that crash."""
    kind = kind_of(data, name)
    with decoding:
        if kind == "HEIC":
            return decode_apart(data, kind, name, limits, max_pixels)
        return decode(data, kind, name, limits, max_pixels, page=page)


def _is_data_uri(source: str | os.PathLike[str]) -> bool:
    return isinstance(source, str) and source[:5].lower() == "data:"


def digest_of(size: tuple[int, int], rgb: bytes) -> str:
    """SHA-256, in hex, of width and height (each 4 bytes, little-endian) followed by the pixels."""
    digest = hashlib.sha256(b"".join(side.to_bytes(4, "little") for side in size))
    digest.update(rgb)
    return digest.hexdigest()
