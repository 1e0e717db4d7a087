"""Pictures that were uploaded ahead of their question: in memory alone, the oldest going first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from gguf_vl.server.failures import NoSuchPicture

PREFIX = "pic_"


class Uploads:
    """The bytes of pictures by id, `budget` bytes of them at most. An id is made of the bytes: a guess is worth nothing
    to who does not have the picture, and two uploads of one are one. `on_drop` is called with the id of one that goes.
    """

    def __init__(self, budget: int) -> None:
        self.on_drop: Callable[[str], None] = lambda _: None
        self._budget = budget
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._n_bytes = 0

    def put(self, data: bytes) -> str:
        """Keep a picture; its id."""
        id = PREFIX + hashlib.sha256(data).hexdigest()[:32]
        if id in self._kept:
            self._kept.move_to_end(id)
            return id
        self._kept[id] = data
        self._n_bytes += len(data)
        while self._n_bytes > self._budget and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))
        return id

    def get(self, id: str) -> bytes:
        """A picture's bytes. Raises `NoSuchPicture` for one that is not, or no longer, here."""
        if id not in self._kept:
            raise NoSuchPicture(f"There is no picture {id[:80]!r} here.", "Upload it again: POST /v1/pictures.")
        self._kept.move_to_end(id)
        return self._kept[id]

    def drop(self, id: str) -> None:
        """Forget a picture; harmless where there is none."""
        self._n_bytes -= len(self._kept.pop(id, b""))
        self.on_drop(id)
