"""Whatever a person gives with a question, pictures, documents and videos, as what one message holds of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.media import documents, video
from gguf_vl.media.documents import Document, document_in, load_pages
from gguf_vl.media.formats import is_pdf, is_tiff, video_in
from gguf_vl.media.pdf import split_pages
from gguf_vl.media.pictures import MAX_BYTES, picture_of
from gguf_vl.media.sources import Source, read_source
from gguf_vl.media.video import Clip, Frames, is_video, load_clip
from gguf_vl.types import Picture, PictureLimits

_TEMPLATE_TOKENS = 64
"""Tokens of a chat template around a question."""

_BYTES_A_TOKEN = 2
"""Of text. Qwen's tokens have three and more, `pocket`'s about so many."""

Content = tuple[str | Picture, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a message shows before its question, in order: pictures, and captions before those that need one. `notes`
    are lines for the person, of what was left out for want of room. `clips` are the videos among it.
    """

    content: Content
    notes: tuple[str, ...] = ()
    clips: tuple[Clip, ...] = ()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures alone."""
        return tuple(part for part in self.content if isinstance(part, Picture))


def may_be_several(source: object) -> bool:
    """Whether what is given may show several pictures: a document or a video, by its first bytes. Of a stream, which
    can be read once, that is not known, so it may.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        head = bytes(source[:1024])
    elif isinstance(source, (str, os.PathLike)):
        where, _ = split_pages(source)
        try:
            with open(str(where), "rb") as file:
                head = file.read(1024)
        except (OSError, ValueError):  # a data: URI, or nothing that is there
            return isinstance(source, str) and source[:5].lower() == "data:"
    else:
        return hasattr(source, "read")
    return is_pdf(head) or is_tiff(head) or video_in(head) is not None


def room(n_ctx: int, texts: Sequence[str], max_tokens: int | None = None) -> int:
    """Tokens of a context that are left for pictures, beside these texts and an answer: a quarter of the context, or
    the most that it may have.
    """
    answer = min(max_tokens or n_ctx, n_ctx // 4)
    told = sum(len(text.encode(errors="replace")) // _BYTES_A_TOKEN for text in texts)
    return n_ctx - answer - _TEMPLATE_TOKENS - told


def show(
    sources: Sequence[Source | Picture], limits: PictureLimits, budget: int, frames: Frames | None = None
) -> Shown:
    """What these show, within `budget` tokens where that can be had.

    A picture has as many tokens as `limits` let it; a `Picture` is shown as it is. What pictures leave is shared by
    documents (all their pages, or those of `report.pdf#2-5,8`) and videos (the frames that `frames` says): see
    `load_pages` and `load_clip`.

    Raises InvalidPicture for what cannot be read, UsageError for `frames` without a video.
    """
    found = [_look(each, limits) for each in sources]
    long = [each for each in found if not isinstance(each, Picture)]
    if frames is not None and not frames.is_default and not any(isinstance(each, _Video) for each in long):
        raise UsageError("Frames are chosen, and no video is given.", "Give a video, or leave that choice out.")
    budget -= sum(each.tokens + documents.CAPTION_TOKENS for each in found if isinstance(each, Picture))
    content: list[str | Picture] = []
    notes: list[str] = []
    clips: list[Clip] = []
    waiting = len(long)
    for each in found:
        if isinstance(each, Picture):
            content.append(each)
            continue
        share = budget // waiting
        if isinstance(each, Document):
            pages = load_pages(each, limits, share)
            parts, note, around = pages.shown, pages.note, documents.CAPTION_TOKENS
        else:
            clip = load_clip(each.source, limits, share, frames, name=each.name)
            clips.append(clip)
            parts = tuple((step.caption, step.picture) for step in clip.steps)
            note, around = clip.note, video.CAPTION_TOKENS
        budget -= sum(picture.tokens + around for _, picture in parts)
        waiting -= 1
        content += [part for pair in parts for part in pair if part]
        notes += [note] if note else []
    return Shown(tuple(content), tuple(notes), tuple(clips))


@dataclass(frozen=True, slots=True)
class _Video:
    source: Path | bytes
    name: str


def _look(source: Source | Picture, limits: PictureLimits) -> Picture | Document | _Video:
    """A picture, read; or what is read when it is known how much room there is."""
    if isinstance(source, Picture):
        return source
    where, pages = split_pages(source)
    if isinstance(where, (str, os.PathLike)) and is_video(path := Path(where)):
        return _Video(path, os.fspath(where))  # by its path: it may be larger than memory
    data, name = read_source(where, MAX_BYTES)
    if video_in(data[:1024]):
        return _Video(data, name)
    if (document := document_in(data, name, pages)) is not None:
        return document
    if pages is not None:
        raise InvalidPicture(f"{name} is no document, and has no page {pages}.", "Give the file without its #.")
    return picture_of(data, name, limits)
