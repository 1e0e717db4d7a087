"""Which pictures are encoded now: of those that have a seat, and ahead of it as far as memory is given for that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gguf_vl.engine.sequence import Sequence

if TYPE_CHECKING:
    from gguf_vl.engine.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Pictures:
    """Asks the encoder. `width` is that of an embedding, `budget` the bytes that those who wait may hold of them."""

    encoder: Encoder
    width: int
    budget: int

    def want(self, sequences: Iterable[Sequence]) -> None:
        """Have encoded what these need next, the first of them first. What is in the cache already needs no picture."""
        held = 0
        for each in sequences:
            for placed in each.cells.pictures:
                if placed.end <= max(each.computed, each.expected if each.slot is None else 0):
                    continue
                n_bytes = 4 * self.width * placed.picture.tokens
                if placed.start not in each.encodings:
                    if each.slot is None and held and held + n_bytes > self.budget:
                        continue
                    wanted = self.encoder.want(placed.picture, each.id, urgent=each.is_asked)
                    each.encodings[placed.start] = wanted
                held += n_bytes
