"""What the cells of a sequence hold, token by token and picture by picture, and how far two sequences are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import msgpack
import numpy as np

from gguf_vl.types import PATCH, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture in a sequence: its first cell, and the position (M-RoPE's time) all of its cells have."""

    picture: Picture
    start: int
    position: int

    @property
    def end(self) -> int:
        """The cell behind its last."""
        return self.start + self.picture.tokens

    @property
    def n_positions(self) -> int:
        """Positions it takes: those of its longer side."""
        return max(self.picture.width, self.picture.height) // PATCH

    @property
    def positions(self) -> NDArray[np.int32]:
        """M-RoPE positions of its cells, [4, tokens] int32: t, row, column, 0 (llama.cpp's order)."""
        columns, rows = self.picture.width // PATCH, self.picture.height // PATCH
        found = np.zeros((4, rows * columns), np.int32)
        found[0] = self.position
        found[1] = self.position + np.repeat(np.arange(rows), columns)
        found[2] = self.position + np.tile(np.arange(columns), rows)
        return found


def _key(picture: Picture) -> int:
    return -1 - int.from_bytes(sha256(picture.digest.encode()).digest()[:7])


class Cells:
    """A sequence's cells in order. Each has a key: its token, or a number below zero made of its picture's content."""

    def __init__(self, parts: Sequence[Sequence[int] | Picture] = ()) -> None:
        self.n = 0
        self.pictures: list[Placed] = []
        self._keys = np.empty(256, np.int64)
        for part in parts:
            if isinstance(part, Picture):
                self._add_picture(part)
            else:
                self.add(part)

    def add(self, tokens: Sequence[int]) -> None:
        """Append tokens."""
        self._room(len(tokens))
        self._keys[self.n : self.n + len(tokens)] = tokens
        self.n += len(tokens)

    def _add_picture(self, picture: Picture) -> None:
        self._room(picture.tokens)
        self._keys[self.n : self.n + picture.tokens] = _key(picture)
        self.pictures.append(Placed(picture, self.n, self.position(self.n)))
        self.n += picture.tokens

    def _room(self, more: int) -> None:
        if self.n + more > len(self._keys):
            self._keys = np.concatenate([self._keys, np.empty(max(len(self._keys), more), np.int64)])

    def tokens(self, start: int, end: int) -> NDArray[np.int32]:
        """The tokens of cells that hold no picture, [n] int32."""
        return self._keys[start:end].astype(np.int32)

    def position(self, cell: int) -> int:
        """The position at which a cell stands, or would stand; not for one inside a picture."""
        before = (placed for placed in self.pictures if placed.end <= cell)
        return cell - sum(placed.picture.tokens - placed.n_positions for placed in before)

    def picture_at(self, cell: int) -> Placed | None:
        """The picture that a cell belongs to."""
        return next((placed for placed in self.pictures if placed.start <= cell < placed.end), None)

    def next_picture(self, cell: int) -> Placed | None:
        """The first picture that starts at a cell or behind it."""
        return next((placed for placed in self.pictures if placed.start >= cell), None)

    def common(self, other: Cells) -> int:
        """How many cells both begin with. A picture is whole or not at all."""
        n = min(self.n, other.n)
        differs = np.flatnonzero(self._keys[:n] != other._keys[:n])
        same = int(differs[0]) if len(differs) else n
        cut = self.picture_at(same) or other.picture_at(same)
        return cut.start if cut else same

    def reusable(self, other: Cells) -> int:
        """How many of its first cells it could take over from another. The last is always left to compute: its logits
        are where an answer begins.
        """
        last = self.picture_at(self.n - 1)
        return min(self.common(other), last.start if last else self.n - 1)

    def dumps(self) -> bytes:
        """All that `loads` needs."""
        pictures = [
            (each.picture.digest, each.picture.width, each.picture.height, each.start) for each in self.pictures
        ]
        packed: bytes = msgpack.packb([self._keys[: self.n].astype("<i8").tobytes(), pictures])
        return packed

    @classmethod
    def loads(cls, data: bytes) -> Cells:
        """Cells as they were, their pictures without pixels. Raises `ValueError` for anything else."""
        try:
            keys, pictures = msgpack.unpackb(data)
            cells = cls()
            cells._keys = np.frombuffer(keys, "<i8").astype(np.int64)
            for digest, width, height, start in pictures:
                placed = Placed(Picture(b"", width, height, (width, height), digest), start, cells.position(start))
                cells.pictures.append(placed)
            cells.n = len(cells._keys)
            whole = all((cells._keys[each.start : each.end] == _key(each.picture)).all() for each in cells.pictures)
            if not whole or any(each.end > cells.n for each in cells.pictures):
                raise ValueError("a picture's cells are others'")
        except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
            raise ValueError(f"no cells: {error}") from error
        return cells

    def copy(self, end: int) -> Cells:
        """The first cells alone, which end outside a picture; their pictures without pixels."""
        first = Cells()
        first.n = end
        first.pictures = [
            replace(placed, picture=replace(placed.picture, rgb=b"")) for placed in self.pictures if placed.end <= end
        ]
        first._keys = self._keys[: max(end, 1)].copy()
        return first
