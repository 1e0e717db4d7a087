"""How far a batch is: a bar with rate and time left where a person watches, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TypeAlias

from gguf_vl.cli.progress import LINE_EVERY_S, Printed

if TYPE_CHECKING:
    from gguf_vl.cli.bars import PictureBar

    Shown: TypeAlias = "PictureBar | PictureLines"


def batch_progress(total: int | None, done: int) -> Shown:
    """A context manager that shows, of `total` pictures (None where more may come for ever), how many are done; so many
    are from before.
    """
    if not sys.stderr.isatty():
        return PictureLines(total, done)
    from gguf_vl.cli.bars import PictureBar

    return PictureBar(total, done)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class PictureLines(Printed):
    """A line every few seconds."""

    def __init__(self, total: int | None, done: int) -> None:
        self._total, self._done, self._new = total, done, 0
        self._began = self._said = time.monotonic()

    def status(self, what: str) -> None:
        """Nothing: a log need not know."""

    def step(self) -> None:
        """One more is done."""
        now = time.monotonic()
        self._new += 1
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            done, rate = self._done + self._new, self._new / (now - self._began)
            rest = f" of {self._total}, {duration((self._total - done) / rate)} left" if self._total is not None else ""
            self.note(f"{done}{rest}, {rate:.2f} pictures/s")

    def more(self, n: int) -> None:
        """There are so many more than was thought."""
        if self._total is not None:
            self._total += n
