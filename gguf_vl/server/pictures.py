"""From what a client calls a picture, a document or a video to what a model sees: nothing on this machine is opened
that was not allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from gguf_vl.errors import DoesNotFit, InvalidPicture, UsageError
from gguf_vl.media.children import in_executor, in_thread
from gguf_vl.media.documents import Document, document_in, load_pages, spelled
from gguf_vl.media.formats import is_pdf, is_tiff, video_in
from gguf_vl.media.pictures import load_picture
from gguf_vl.media.resize import limits_for
from gguf_vl.media.sources import decode_data_uri, on_one_line
from gguf_vl.media.video import MOST_TOKENS, Clip, Frames, load_clip
from gguf_vl.server.asked import Shown
from gguf_vl.server.failures import TooManyPictures
from gguf_vl.server.uploads import PREFIX, Uploads
from gguf_vl.types import Detail, Picture, PictureLimits

VIDEO_S = 60.0
"""Seconds that reading a client's video may take."""
_FOR_PICTURES = 3
"""Quarters of the context that documents and videos may fill: no more than the engine leaves for an answer, and the
same in every turn of a talk, so that what was computed for one is of use for the next.
"""
_READERS = ThreadPoolExecutor(2, thread_name_prefix="documents and videos")
"""Those that run in processes of their own, which may take gigabytes: so many at once."""

Fetch = Callable[[str], Awaitable[bytes]]
"""The bytes behind a URL that the operator allows. Raises `InvalidPicture` for any other."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model sees of something that was shown: pictures, with captions before them; of a video the `clip` too, of
    a document the pages that are seen.
    """

    content: tuple[str | Picture, ...]
    clip: Clip | None = None
    document: Document | None = None

    @property
    def pictures(self) -> list[Picture]:
        """The pictures in it: pages, steps of a video, or the one."""
        return [part for part in self.content if isinstance(part, Picture)]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Reads what clients show. `detail` is for those who ask for none, `max_bytes` and `max_pixels` are one picture's,
    `most` is how many a request may have, pages and steps of videos among them.
    """

    uploads: Uploads
    fetch: Fetch
    detail: Detail
    max_bytes: int
    max_pixels: int
    most: int

    async def read(
        self, shown: Sequence[tuple[Shown, PictureLimits]], n_ctx: int, *, alone: bool = False, cut: bool = False
    ) -> list[Seen]:
        """What a request shows, each within its own limits, for a model with a context of `n_ctx` tokens: of documents
        and videos what three quarters of it hold beside the pictures. Frames come in pairs, or each `alone` for a
        request of its own. Of a document whose pages do not all fit those that do are seen where it may be `cut`.

        Raises `InvalidPicture`, `UsageError`, `TooManyPictures` (pages are pictures too), and `DoesNotFit` for a
        document that may not be cut and would have to be: nothing is left out unsaid.
        """
        self.check(len(shown))
        found = [await self._look(each, allowed) for each, allowed in shown]
        long = [each for each in found if not isinstance(each, Picture)]
        if cut:
            found = [self._with_most(each) for each in found]
        n_pictures = sum(len(each.numbers) if isinstance(each, Document) else 1 for each in found)
        self.check(n_pictures)
        n_videos = sum(isinstance(each, bytes) for each in found)
        left = _FOR_PICTURES * n_ctx // 4 - sum(each.tokens for each in found if isinstance(each, Picture))
        seen: list[Seen] = []
        for each, (named, allowed) in zip(found, shown, strict=True):
            if isinstance(each, Picture):
                seen.append(Seen((each,)))
            elif isinstance(each, Document):
                seen.append(await in_executor(_READERS, self._pages, each, allowed, left // len(long), cut))
            else:
                steps = (self.most - n_pictures) // n_videos + 1
                if alone:  # one frame at a time is all that the context must hold
                    most = max(allowed.min_tokens, min(allowed.max_tokens, left))
                    allowed = PictureLimits(allowed.min_tokens, most)
                budget = MOST_TOKENS if alone else left // len(long)
                frames = replace(named.frames or Frames(), alone=alone)
                seen.append(await in_executor(_READERS, _clip, each, allowed, budget, frames, named.name, steps))
        return seen

    def check(self, n: int) -> None:
        """Raise `TooManyPictures` for more than one request may have."""
        if n > self.most:
            raise TooManyPictures(
                f"The request has {n} pictures, and {self.most} are taken.", "Send fewer; a page is one too."
            )

    async def _look(self, shown: Shown, allowed: PictureLimits) -> Picture | Document | bytes:
        """A picture, read; a document, counted; a video's bytes."""
        data = await self._bytes(shown.source)
        if len(data) > self.max_bytes:
            raise InvalidPicture(f"A file is larger than the {self.max_bytes >> 20} MiB that are taken.", "Send less.")
        name = on_one_line(shown.name)
        if video_in(data[:1024]):
            return data
        if is_pdf(data) or is_tiff(data):
            document = await in_executor(_READERS, document_in, data, name or "The document", shown.pages)
            if document is not None and (is_pdf(data) or document.n_pages > 1):
                return document
        elif shown.pages is not None:
            raise UsageError(f"{name or 'A file'} is no document, and has no pages.", "Leave out its pages.")
        return await self._decoded(data, allowed)

    def _with_most(self, found: Picture | Document | bytes) -> Picture | Document | bytes:
        """A document with no more pages than one request may have."""
        return replace(found, numbers=found.numbers[: self.most]) if isinstance(found, Document) else found

    def _pages(self, document: Document, allowed: PictureLimits, budget: int, cut: bool) -> Seen:
        pages = load_pages(document, allowed, budget, max_pixels=self.max_pixels)
        numbers = document.numbers[: len(pages.shown)]
        if pages.left and not cut:
            fit = spelled(numbers)
            raise DoesNotFit(
                f"{document.name} has {document.n_pages} pages, and of those that are wanted {fit} fit the context.",
                f'Send it with "pages": "{fit}", or have the operator give a larger --ctx.',
            )
        content = tuple(part for pair in pages.shown for part in pair if part)
        return Seen(content, document=replace(document, numbers=numbers))

    def allowed(self, shown: Shown, limits: PictureLimits) -> PictureLimits:
        """The image tokens that a picture of this detail may have."""
        return limits_for(shown.detail or self.detail, limits)

    async def _decoded(self, data: bytes, allowed: PictureLimits) -> Picture:
        return await in_thread(load_picture, data, allowed, max_pixels=self.max_pixels, max_bytes=self.max_bytes)

    async def _bytes(self, source: str | bytes) -> bytes:
        if isinstance(source, bytes):
            return source
        if source[:5].lower() == "data:":
            return await asyncio.to_thread(decode_data_uri, source, self.max_bytes)
        if source.startswith(PREFIX):
            return self.uploads.get(source)
        if "://" in source[:16] or source.startswith("file:"):
            return await self.fetch(source)
        raise InvalidPicture(
            "A picture is neither a data: URI nor the id of one that was uploaded.",
            "Send data:image/png;base64, followed by the whole file in base64.",
        )


def _clip(data: bytes, allowed: PictureLimits, budget: int, frames: Frames, name: str, most_steps: int) -> Seen:
    name = on_one_line(name) or "The video"
    clip = load_clip(data, allowed, budget, frames, name=name, most_steps=most_steps, timeout_s=VIDEO_S)
    return Seen(tuple(part for step in clip.steps for part in (step.caption, step.picture)), clip)
