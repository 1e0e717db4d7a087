"""How many answers are under way: so many are let in, and none once the server ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gguf_vl.server.failures import Full, Unavailable


class Gate:
    """Lets `most` answers in at once: `under_way` are being made or wait."""

    def __init__(self, most: int) -> None:
        self.is_closed = False
        self._most = most
        self.under_way = 0

    @contextmanager
    def entered(self, n: int = 1) -> Iterator[None]:
        """Inside, `n` answers are under way. Raises `Full` where there is no room, `Unavailable` after `close`."""
        if self.is_closed:
            raise ending()
        if self.under_way >= self._most:
            raise Full(self.under_way + 1)
        self.under_way += n
        try:
            yield
        finally:
            self.under_way -= n

    def close(self) -> None:
        """Let nobody in from now on."""
        self.is_closed = True


def ending() -> Unavailable:
    """What those get whom the server's end cuts off."""
    return Unavailable("This server is ending.", "Ask again when it is back.")
