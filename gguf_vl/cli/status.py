"""One changing line on standard error while work goes on; nothing where no person watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self


class Status:
    """A line that is rewritten in place and gone when the answer begins."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._width = 0

    def show(self, line: str) -> None:
        """Replace the line."""
        if self._watched:
            sys.stderr.write("\r" + line.ljust(self._width))
            sys.stderr.flush()
            self._width = len(line)

    def clear(self) -> None:
        """Take the line away."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.clear()
