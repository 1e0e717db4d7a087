"""Pages of a PDF document as pictures: PDFium draws them, in a process of its own."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.apart import TIMEOUT_S, bound_memory, in_child, serve_one
from gguf_vl.media.sources import Source, on_one_line, read_source
from gguf_vl.types import PATCH, PictureLimits

PAGE_LIMITS = PictureLimits(1, 4096)
"""For a page that is kept: A4 at some 180 dpi, where small print is read well."""

MAX_DPI = 200
"""No page is drawn finer: a receipt needs not as many pixels as a poster."""

MAX_BYTES = 128 * 2**20
"""Bytes of a document."""

PAGES = re.compile(r"[0-9]{1,9}(-[0-9]{0,9})?(,[0-9]{1,9}(-[0-9]{0,9})?)*")
"""How pages are named: 3, 2-5,8 or 7-."""
_THIS = "gguf_vl.media.pdf"
_POINTS_PER_INCH = 72
_MAX_SIDE = 20_000
_PAGE_S = 5.0
"""Seconds that each page more may take."""


def split_pages(source: Source) -> tuple[Source, str | None]:
    """A path with pages behind it, `report.pdf#2-5,8`, as the file and "2-5,8"; anything else as it is, and None.

    A file that has such a name itself is that file.
    """
    if isinstance(source, (str, os.PathLike)):
        file, _, pages = os.fspath(source).rpartition("#")
        if PAGES.fullmatch(pages) and os.path.isfile(file) and not os.path.exists(source):
            return file, pages
    return source, None


def split_page(source: Source) -> tuple[Source, int | None]:
    """As `split_pages`, where one page is wanted. Raises InvalidPicture for several."""
    file, pages = split_pages(source)
    if pages is not None and not pages.isdecimal():
        raise InvalidPicture(
            f"{on_one_line(str(source))} is several pages, where one picture is wanted.",
            "Name one of them, such as report.pdf#2.",
        )
    return file, None if pages is None else int(pages)


def page_count(path: Path, *, max_bytes: int = MAX_BYTES) -> int:
    """How many pages a document has. Raises InvalidPicture for one that is missing, encrypted or damaged."""
    return pages_in(*read_source(path, max_bytes))


def pages_in(data: bytes, name: str) -> int:
    """As `page_count`, of a document's bytes."""
    return _ask_child(data, name, [], None)[0]


def page(path: Path, number: int, limits: PictureLimits = PAGE_LIMITS, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Page `number`, from 1, as a PNG on white, of no more pixels than `limits` let a picture have, nor of `MAX_DPI`.

    Raises InvalidPicture for a document that is missing, encrypted or damaged, and for a page that it does not have.
    """
    data, name = read_source(path, max_bytes)
    return page_of(data, name, number, limits)


def page_of(data: bytes, name: str, number: int | None, limits: PictureLimits = PAGE_LIMITS) -> bytes:
    """As `page`, of a document's bytes. Without a number it is the only page; where there are more, none is guessed."""
    return _ask_child(data, name, [number], limits)[1][0]


def several_of(data: bytes, name: str, numbers: Sequence[int], limits: PictureLimits) -> list[bytes]:
    """As `page_of`, of several pages, in the order of their `numbers`."""
    return _ask_child(data, name, list(numbers), limits)[1]


def _ask_child(
    data: bytes, name: str, numbers: Sequence[int | None], limits: PictureLimits | None
) -> tuple[int, list[bytes]]:
    """How many pages there are and, where there are `limits` for it, some of them as PNG."""
    max_pixels = limits and limits.max_tokens * PATCH**2
    timeout_s = TIMEOUT_S + _PAGE_S * len(numbers)
    said, pngs = in_child(_THIS, [name, numbers, max_pixels], data, "PDF", name, timeout_s=timeout_s)
    ends = list(accumulate(said["sizes"], initial=0))
    return int(said["pages"]), [pngs[start:end] for start, end in pairwise(ends)]


def _serve(job: Any, data: bytes) -> tuple[dict[str, Any], bytes]:
    """The child's side of `_ask_child`."""
    name, numbers, max_pixels = job
    bound_memory()
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
        document.init_forms()  # so that what was filled in is drawn too
        pages = len(document)
        places = [_index(name, number, pages) for number in numbers]
        pngs = [] if max_pixels is None else [_png(document[place], max_pixels) for place in places]
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise InvalidPicture(
                f"{name} is encrypted, and opens with a password only.", "Save it without one, or give a screenshot."
            ) from error
        raise InvalidPicture(
            f"{name} starts like a PDF document but cannot be read: cut off or damaged ({on_one_line(str(error))}).",
            "Download or copy it again, or give a screenshot of the page.",
        ) from error
    return {"pages": pages, "sizes": [len(png) for png in pngs]}, b"".join(pngs)


def _index(name: str, number: int | None, pages: int) -> int:
    """The place, from 0, of page `number`; without one of the only page."""
    if number is None and pages > 1:
        raise InvalidPicture(
            f"{name} has {pages} pages.", f"Say which: {name}#1 is the first, {name}#{pages} the last."
        )
    number = 1 if number is None else number
    check_page(name, number, pages)
    return number - 1


def check_page(name: str, number: int, pages: int) -> None:
    """Raises InvalidPicture for a `number`, from 1, that a document of so many `pages` does not have."""
    if not 1 <= number <= pages:
        has = "1 page" if pages == 1 else f"{pages} pages"
        raise InvalidPicture(
            f"{name} has {has}, and no page {number}.", f"Give one that it has, such as {name}#{pages}."
        )


def _png(page: Any, max_pixels: int) -> bytes:
    """A page of PDFium's as PNG. Its size is the document's to say, so it is believed only within bounds."""
    width, height = (min(max(side, 1.0), 1e6) for side in page.get_size())
    scale = min(MAX_DPI / _POINTS_PER_INCH, math.sqrt(max_pixels / (width * height)), _MAX_SIDE / max(width, height))
    png = io.BytesIO()
    page.render(scale=scale).to_pil().convert("RGB").save(png, "PNG")
    return png.getvalue()


if __name__ == "__main__":
    serve_one(_serve)
