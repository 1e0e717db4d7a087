"""Pages of a PDF document as pictures: PDFium draws them, in a process of its own."""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path
from typing import Any

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import in_child, serve_one
from gguf_vl.media.sources import Source, on_one_line, read_source
from gguf_vl.types import PATCH, PictureLimits

PAGE_LIMITS = PictureLimits(1, 4096)
"""For a page that is kept: A4 at some 180 dpi, where small print is read well."""

MAX_DPI = 200
"""No page is drawn finer: a receipt needs not as many pixels as a poster."""

MAX_BYTES = 128 * 2**20
"""Bytes of a document."""

_THIS = "gguf_vl.media.pdf"
_POINTS_PER_INCH = 72
_MAX_SIDE = 20_000
_CHILD_BYTES = 4 * 2**30
"""Address space of the child under Linux, which a hostile document cannot outgrow."""


def split_page(source: Source) -> tuple[Source, int | None]:
    """A path with a page behind it, `report.pdf#3`, as the file and the number; anything else as it is, and None.

    A file that has such a name itself is that file.
    """
    if isinstance(source, (str, os.PathLike)):
        file, mark, number = os.fspath(source).rpartition("#")
        is_number = mark and number.isascii() and number.isdecimal() and len(number) < 10
        if is_number and os.path.isfile(file) and not os.path.exists(source):
            return file, int(number)
    return source, None


def page_count(path: Path, *, max_bytes: int = MAX_BYTES) -> int:
    """How many pages a document has. Raises InvalidPicture for one that is missing, encrypted or damaged."""
    return pages_in(*read_source(path, max_bytes))


def pages_in(data: bytes, name: str) -> int:
    """As `page_count`, of a document's bytes."""
    return _ask_child(data, name, None, None)[0]


def page(path: Path, number: int, limits: PictureLimits = PAGE_LIMITS, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Page `number`, from 1, as a PNG on white, of no more pixels than `limits` let a picture have, nor of `MAX_DPI`.

    Raises InvalidPicture for a document that is missing, encrypted or damaged, and for a page that it does not have.
    """
    data, name = read_source(path, max_bytes)
    return page_of(data, name, number, limits)


def page_of(data: bytes, name: str, number: int | None, limits: PictureLimits = PAGE_LIMITS) -> bytes:
    """As `page`, of a document's bytes. Without a number it is the only page; where there are more, none is guessed."""
    return _ask_child(data, name, number, limits)[1]


def _ask_child(data: bytes, name: str, number: int | None, limits: PictureLimits | None) -> tuple[int, bytes]:
    """How many pages there are and, where there are `limits` for it, one of them as PNG."""
    max_pixels = limits and limits.max_tokens * PATCH**2
    said, png = in_child(_THIS, [name, number, max_pixels], data, "PDF", name)
    return int(said["pages"]), png


def _serve(job: Any, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The child's side of `_ask_child`."""
    name, number, max_pixels = job
    _bound_memory()
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
        document.init_forms()  # so that what was filled in is drawn too
        pages = len(document)
        png = b"" if max_pixels is None else _png(document[_index(name, number, pages)], max_pixels)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise InvalidPicture(
                f"{name} is encrypted, and opens with a password only.", "Save it without one, or give a screenshot."
            ) from error
        raise InvalidPicture(
            f"{name} starts like a PDF document but cannot be read: cut off or damaged ({on_one_line(str(error))}).",
            "Download or copy it again, or give a screenshot of the page.",
        ) from error
    return {"pages": pages}, png


def _index(name: str, number: int | None, pages: int) -> int:
    if number is None and pages > 1:
        raise InvalidPicture(
            f"{name} has {pages} pages.", f"Say which: {name}#1 is the first, {name}#{pages} the last."
        )
    if number is not None and not 1 <= number <= pages:
        has = "1 page" if pages == 1 else f"{pages} pages"
        raise InvalidPicture(
            f"{name} has {has}, and no page {number}.", f"Give one that it has, such as {name}#{pages}."
        )
    return (number or 1) - 1


def _png(page: Any, max_pixels: int) -> bytes:
    """A page of PDFium's as PNG. Its size is the document's to say, so it is believed only within bounds."""
    width, height = (min(max(side, 1.0), 1e6) for side in page.get_size())
    scale = min(MAX_DPI / _POINTS_PER_INCH, math.sqrt(max_pixels / (width * height)), _MAX_SIDE / max(width, height))
    png = io.BytesIO()
    page.render(scale=scale).to_pil().convert("RGB").save(png, "PNG")
    return png.getvalue()


def _bound_memory() -> None:
    if sys.platform == "linux":  # elsewhere the limit is not there, or not kept
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_CHILD_BYTES, _CHILD_BYTES))


if __name__ == "__main__":
    serve_one(_serve)
