"""What every class of this room has in common: it owns something native and releases it when told to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Owned(ABC):
    """A holder of native memory, also as a context manager."""

    @abstractmethod
    def close(self) -> None:
        """Release it. Harmless when done twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
