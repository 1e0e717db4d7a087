"""How long work on files tells how far it is. The command line draws it; here are only the words."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of several files at once, each known by its label. May be called from several threads."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Work on a file of `total` bytes begins, or begins again, with `done` of them behind it."""

    def at(self, label: str, done: int) -> None:
        """`done` bytes of the file are behind it. May raise to stop the work."""

    def end(self, label: str) -> None:
        """The file is done, well or not."""

    def note(self, line: str) -> None:
        """Something a person should know: a retry, a wait, a change of source."""


class Silent:
    """A `Progress` that keeps everything to itself."""

    def start(self, label: str, total: int, done: int = 0) -> None: ...

    def at(self, label: str, done: int) -> None: ...

    def end(self, label: str) -> None: ...

    def note(self, line: str) -> None: ...


def size(n_bytes: int) -> str:
    """Bytes as a person reads them."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
