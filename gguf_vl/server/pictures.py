"""From what a client calls a picture to the picture: nothing on this machine is opened that was not allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gguf_vl.errors import InvalidPicture
from gguf_vl.media.pictures import load_picture
from gguf_vl.media.resize import limits_for
from gguf_vl.media.sources import decode_data_uri
from gguf_vl.server.asked import Shown, Turn
from gguf_vl.server.failures import TooManyPictures
from gguf_vl.server.uploads import PREFIX, Uploads
from gguf_vl.types import Detail, Message, Picture, PictureLimits

Fetch = Callable[[str], Awaitable[bytes]]
"""The bytes behind a URL that the operator allows. Raises `InvalidPicture` for any other."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Reads what clients show. `detail` is for those who ask for none, `max_bytes` and `max_pixels` are one picture's,
    `most` is how many a request may have.
    """

    uploads: Uploads
    fetch: Fetch
    detail: Detail
    max_bytes: int
    max_pixels: int
    most: int

    async def messages(self, turns: tuple[Turn, ...], limits: PictureLimits) -> tuple[Message, ...]:
        """The turns, with their pictures as a model of these limits sees them.

        Raises `InvalidPicture`, `TooManyPictures`.
        """
        self.check(sum(isinstance(part, Shown) for turn in turns for part in turn.content))
        return tuple([await self._message(turn, limits) for turn in turns])

    def check(self, n: int) -> None:
        """Raise `TooManyPictures` for more than one request may have."""
        if n > self.most:
            raise TooManyPictures(f"The request has {n} pictures, and {self.most} are taken.", "Send fewer.")

    async def _message(self, turn: Turn, limits: PictureLimits) -> Message:
        content = [part if isinstance(part, str) else await self.picture(part, limits) for part in turn.content]
        return Message(turn.role, tuple(content), turn.calls)

    async def picture(self, shown: Shown, limits: PictureLimits) -> Picture:
        """One picture. Raises `InvalidPicture`."""
        return await self.within(shown, limits_for(shown.detail or self.detail, limits))

    async def within(self, shown: Shown, allowed: PictureLimits) -> Picture:
        """One picture, of so many tokens whatever its detail. Raises `InvalidPicture`."""
        data = await self._bytes(shown.source)
        return await asyncio.to_thread(
            load_picture, data, allowed, max_pixels=self.max_pixels, max_bytes=self.max_bytes
        )

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
