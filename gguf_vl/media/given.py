"""What a person gives, in whatever way, as a picture file's bytes that are known to be one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.dropped import path_of_uri
from gguf_vl.media.formats import is_pdf, is_tiff
from gguf_vl.media.pdf import PAGE_LIMITS, page_of, pages_in
from gguf_vl.media.pictures import MAX_BYTES, MAX_PIXELS, decode_safely, read_page, tiff_pages
from gguf_vl.media.sources import on_one_line, read_source
from gguf_vl.types import PictureLimits

_SMALL = PictureLimits(1, 1)


@dataclass(frozen=True, slots=True)
class Given:
    """A picture as a file's bytes, which `load_picture` reads.

    `data` is the file as it was given; of a PDF page, the PNG that was drawn. `size` is (width, height) in pixels,
    upright: the frame of `Picture.original_size` and of boxes. `name` is what to call it: `cat.png`, `report.pdf#3`.
    """

    name: str
    data: bytes = field(repr=False)
    size: tuple[int, int]


def given(
    source: str | Path | bytes,
    *,
    name: str = "picture",
    offline: bool = False,
    limits: PictureLimits = PAGE_LIMITS,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Given:
    """The picture in a path, a `file:`, `data:`, http or https URL as text, or a file's bytes, which are called `name`.

    Of a PDF, `report.pdf#3` is page 3, drawn to `limits`; without a number it must have one page. A URL is fetched, for
    a person typed it. Everything is decoded once, so that what is broken is known at once. Blocking; safe in threads
    that run no event loop.

    Raises InvalidPicture for what is no picture, and `OfflineError` for a URL where `offline`.
    """
    if isinstance(source, str) and source[:8].lower().startswith(("http://", "https://")):
        data, shown, name = _fetched(source, offline, limits, max_bytes)
    elif isinstance(source, bytes) or (isinstance(source, str) and source[:5].lower() == "data:"):
        data, shown = read_page(source, limits, max_bytes)
    else:
        path = _path(source)
        data, shown = read_page(path, limits, max_bytes)
        name = path.name
    return Given(name, data, decode_safely(data, shown, _SMALL, max_pixels).original_size)


def pages_of(path: Path) -> int:
    """How many pages a document has; 1 for a picture. Raises InvalidPicture for what cannot be read."""
    data, name = read_source(path, MAX_BYTES)
    if is_tiff(data):
        return len(tiff_pages(data, name))
    return pages_in(data, name) if is_pdf(data) else 1


def _path(source: str | Path) -> Path:
    if isinstance(source, Path):
        return source
    if source[:5].lower() == "file:":
        path = path_of_uri(source)
        if path is None:
            raise InvalidPicture(f"{on_one_line(source)} is no file of this machine.", "Give its path.")
        return path
    return Path(os.path.expanduser(source) if source.startswith("~/") else source)


def _fetched(url: str, offline: bool, limits: PictureLimits, max_bytes: int) -> tuple[bytes, str, str]:
    """(data, what a message calls it, name)."""
    from gguf_vl.media.fetching import fetch

    where, _, fragment = url.partition("#")
    data = fetch(where, offline=offline, max_bytes=max_bytes)
    shown = on_one_line(url)
    path = where.partition("://")[2].partition("?")[0].partition("/")[2]
    name = unquote(path.rpartition("/")[2]) or "picture"
    if is_pdf(data):
        number = int(fragment) if fragment.isascii() and fragment.isdecimal() and len(fragment) < 10 else None
        data = page_of(data, on_one_line(where), number, limits)
        name = name if number is None else f"{name}#{number}"
    return data, shown, name
