"""Data from a stranger, read field by field: what is not as it should be is told with its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from gguf_vl.errors import InvalidHistory

T = TypeVar("T")
MOST = 2**53
"""Numbers beyond it are not exact in JSON."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value, and where it stood. Every reading raises `InvalidHistory` for a value of another kind."""

    value: Any
    where: str

    def wrong(self, expected: str) -> InvalidHistory:
        """The error for a value that is not what was expected."""
        what = f"{self.where or 'The whole'} is not {expected}, and nothing was imported."
        return InvalidHistory(what, "Give a file that `gguf-vl chats export --as json` has written.")

    def fields(self) -> Iterator[tuple[str, Given]]:
        """The names and values of an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return ((name, Given(value, f"{self.where}.{name}"[-120:])) for name, value in self.value.items())

    def field(self, name: str) -> Given:
        """One field of an object; null where it is missing."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return Given(self.value.get(name), f"{self.where}.{name}".lstrip("."))

    def each(self) -> Iterator[Given]:
        """The items of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return (Given(item, f"{self.where}[{number}]") for number, item in enumerate(self.value))

    def text(self) -> str:
        """A text. Halves of surrogate pairs, which cannot be stored, become question marks."""
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value.encode("utf-8", "replace").decode("utf-8")

    def one_of(self, *texts: str) -> str:
        """One of these texts."""
        if self.value not in texts:
            raise self.wrong(" or ".join(texts))
        return str(self.value)

    def truth(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self) -> float:
        """A number that is one."""
        number = self.value
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise self.wrong("a number")
        if abs(number) > MOST:
            raise self.wrong("a number of a sensible size")
        return number

    def time(self) -> float:
        """Seconds since 1970, to the year 9999."""
        if not 0 <= self.number() < 253_402_300_800:
            raise self.wrong("a time in seconds since 1970")
        return self.number()

    def whole(self, least: int, most: int = MOST) -> int:
        """A whole number between these."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not least <= self.value <= most:
            raise self.wrong(f"a whole number from {least} to {most}")
        return self.value

    def maybe(self, read: Callable[[Given], T]) -> T | None:
        """What `read` makes of it, or None for null."""
        return None if self.value is None else read(self)
