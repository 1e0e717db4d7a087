"""Documents of several pages, PDF and TIFF: the pages that are meant, as many and as sharp as the context takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from gguf_vl.errors import UsageError
from gguf_vl.media.formats import is_pdf, is_tiff
from gguf_vl.media.pdf import PAGES, check_page, pages_in, several_of, split_pages
from gguf_vl.media.pictures import MAX_BYTES, MAX_PIXELS, picture_of, tiff_pages
from gguf_vl.media.sources import Source, on_one_line, read_source
from gguf_vl.types import Picture, PictureLimits

READABLE_TOKENS = 512
"""Image tokens of a page whose print is still read: A4 at some 74 dpi, where an x of 10 points is 5 pixels high."""

CAPTION_TOKENS = 8
"""Tokens that a page takes besides its own: "Page 12:" and the two around a picture."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document, and the pages of it that are meant: their `numbers` from 1, of `n_pages`. Nothing is drawn yet."""

    name: str
    data: bytes = field(repr=False)
    numbers: tuple[int, ...]
    n_pages: int


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages as the model sees them, each with its caption, empty where it is the only one. `note` says in a line what
    was left out or shrunk, empty where nothing was; `left` are the numbers of those left out.
    """

    shown: tuple[tuple[str, Picture], ...]
    note: str = ""
    left: tuple[int, ...] = ()


def open_document(source: Source, *, max_bytes: int = MAX_BYTES) -> Document | None:
    """The document in `source`: a path, also with pages behind it (`report.pdf#2-5,8`, `scan.tif#3-`), bytes or a
    stream. None where it is no document.

    Raises InvalidPicture for what cannot be read and for a page that it does not have, UsageError for pages that count
    backwards.
    """
    where, asked = split_pages(source)
    data, name = read_source(where, max_bytes)
    return document_in(data, name, asked)


def document_in(data: bytes, name: str, asked: str | None = None) -> Document | None:
    """As `open_document`, of a file's bytes and the pages that are asked for, None for all. Raises UsageError for what
    are no pages.
    """
    if asked is not None and not PAGES.fullmatch(asked):
        raise UsageError(f"{on_one_line(asked)!r} are no pages.", "Name them as 2-5,8.")
    if is_pdf(data):
        n_pages = pages_in(data, name)
    elif is_tiff(data):
        n_pages = len(tiff_pages(data, name))
    else:
        return None
    numbers = tuple(range(1, n_pages + 1)) if asked is None else _numbers(asked, n_pages, name)
    return Document(name, data, numbers, n_pages)


def load_pages(document: Document, limits: PictureLimits, budget: int, *, max_pixels: int = MAX_PIXELS) -> Pages:
    """The pages of a document that fit `budget` tokens, each within `limits`.

    Where they don't fit in full sharpness, all are drawn smaller, with no fewer than `READABLE_TOKENS` tokens; then the
    last ones are left out. The first one is always there. Raises InvalidPicture.
    """
    numbers = document.numbers
    if len(numbers) == 1:
        return Pages((("", _drawn(document, numbers, limits, max_pixels)[0]),))
    floor = max(limits.min_tokens, min(READABLE_TOKENS, limits.max_tokens))
    fit = max(1, min(len(numbers), budget // (floor + CAPTION_TOKENS)))
    tokens = max(floor, min(limits.max_tokens, budget // fit - CAPTION_TOKENS))
    kept, left = numbers[:fit], numbers[fit:]
    pictures = _drawn(document, kept, PictureLimits(limits.min_tokens, tokens), max_pixels)
    # only a page that would have had more is smaller for it
    shrunk = tokens < limits.max_tokens and any(picture.tokens > 0.9 * tokens for picture in pictures)
    captions = [f"Page {number}:" for number in kept]
    note = _note(document, kept, left, tokens if shrunk else None)
    return Pages(tuple(zip(captions, pictures, strict=True)), note, left)


def _drawn(document: Document, numbers: Sequence[int], limits: PictureLimits, max_pixels: int) -> list[Picture]:
    name = os.path.basename(document.name)
    if is_pdf(document.data):
        pngs = several_of(document.data, document.name, numbers, limits)
        named = zip(pngs, numbers, strict=True)
        return [picture_of(png, f"{name}#{number}", limits) for png, number in named]
    places = tiff_pages(document.data, document.name)
    return [picture_of(document.data, f"{name}#{number}", limits, max_pixels, places[number - 1]) for number in numbers]


def _note(document: Document, kept: Sequence[int], left: Sequence[int], tokens: int | None) -> str:
    name = os.path.basename(document.name)
    if left:
        of = f"of {document.n_pages}"
        fit = f"page {kept[0]} {of} fits" if len(kept) == 1 else f"pages {spelled(kept)} {of} fit"
        return (
            f"{name}: {fit} the context, {spelled(left)} {'is' if len(left) == 1 else 'are'} left out. "
            f"Ask about {name}#{spelled(left)} too, or give a larger --ctx."
        )
    if tokens is not None:
        return f"{name}: its {len(kept)} pages are drawn with {tokens} tokens each, so that all fit the context."
    return ""


def spelled(numbers: Sequence[int]) -> str:
    """Page numbers as a person writes them: 2-5,8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _numbers(asked: str, n_pages: int, name: str) -> tuple[int, ...]:
    """The pages of "2-5,8" or "7-", each once, in the order in which they are written."""
    found: dict[int, None] = {}
    for run in asked.split(","):
        first, is_range, last = run.partition("-")
        start = int(first)
        end = int(last) if last else n_pages if is_range else start
        for number in (start, end):
            check_page(name, number, n_pages)
        if end < start:
            raise UsageError(f"The pages {run} of {name} count backwards.", f"Write {name}#{end}-{start}.")
        found |= dict.fromkeys(range(start, end + 1))
    return tuple(found)
