"""The rules of a GBNF grammar, read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Symbol = tuple[bool, tuple[tuple[int, int], ...]]
"""Whether these are left out, and code points from first to last. Tokens are numbered behind all code points."""
TOKENS = 0x110000


@dataclass(slots=True)
class Item:
    """One element of a sequence: a reference to a rule, or characters or tokens, so many times (None is any number)."""

    rule: str | None
    symbols: tuple[Symbol, ...] = ()
    fewest: int = 1
    most: int | None = 1
    written_out: int = 1

    @property
    def size(self) -> int:
        """Elements of llama.cpp's, repetitions written out."""
        return (1 if self.rule else len(self.symbols)) * self.written_out


Alternatives = list[list[Item]]


def items(alternatives: Alternatives) -> Iterator[Item]:
    """Those of all sequences."""
    return (item for sequence in alternatives for item in sequence)
