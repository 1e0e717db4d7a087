"""llama.cpp's sequences: those being decoded, and those kept because a later request may begin as they do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gguf_vl.engine.cells import Cells

if TYPE_CHECKING:
    from gguf_vl.native.context import Context


class Slots:
    """Every sequence id of a context. A kept one shares its cells with whatever begins as it does.

    The least recently used of the kept goes first, whenever an id or cells are wanted.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._free = list(range(context.n_seqs))
        self._kept: OrderedDict[int, Cells] = OrderedDict()

    @property
    def n_kept(self) -> int:
        """Sequences that are kept."""
        return len(self._kept)

    @property
    def n_free(self) -> int:
        """Ids of no sequence."""
        return len(self._free)

    @property
    def kept_cells(self) -> int:
        """Cells that kept sequences hold, those they share counted for each."""
        return sum(cells.n for cells in list(self._kept.values()))  # a list: another thread may ask

    def source(self, wanted: Cells, running: Iterable[tuple[int, Cells]]) -> tuple[int | None, int]:
        """The sequence, kept or `running` (with what it has computed), that begins most like it, and so many cells."""
        source, n_same = None, 0
        for slot, cells in [*self._kept.items(), *running]:
            n = wanted.reusable(cells)
            if n > n_same:
                source, n_same = slot, n
        return source, n_same

    def open(self, wanted: Cells, running: Iterable[tuple[int, Cells]]) -> tuple[int, int]:
        """An id for a sequence of these cells, and how many of them it has already, from its `source`."""
        source, n_same = self.source(wanted, running)
        if not self._free:
            self.evict(spare=source)
        if source is None:
            return self._free.pop(), 0
        if not self._free:  # the only kept one is continued itself
            del self._kept[source]
            self._context.cut(source, wanted.position(n_same))
            return source, n_same
        if source in self._kept:
            self._kept.move_to_end(source)
        slot = self._free.pop()
        self._context.share(source, slot, wanted.position(n_same))
        return slot, n_same

    def restore(self, path: Path, cells: Cells, wanted: Cells) -> bool:
        """Take in a sequence of these cells from a file, and keep what `wanted` can use of it.

        False where there is no room even without as much as it takes of what is kept, or it is no such file.
        """
        if not self._free and not self.evict():
            return False
        slot, evicted = self._free.pop(), 0
        while not self._context.restore(slot, path):
            oldest = next(iter(self._kept.values()), None)
            if oldest is None or evicted >= cells.n or not path.exists():
                self._free.append(slot)
                return False
            evicted += oldest.n
            self.evict()
        self.keep(slot, cells.copy(wanted.reusable(cells)))
        return True

    def latest(self) -> Iterator[tuple[int, Cells]]:
        """What is kept, the most recently used first."""
        return reversed(self._kept.items())

    def keep(self, slot: int, cells: Cells) -> None:
        """A sequence is left: keep these first cells of it, if any, and nothing that they make superfluous."""
        if not cells.n:
            self.drop(slot)
            return
        self._context.cut(slot, cells.position(cells.n))
        for other, kept in list(self._kept.items()):
            n = kept.common(cells)
            if n == kept.n:
                self.drop(other)
            elif n == cells.n:
                self._kept.move_to_end(other)
                self.drop(slot)
                return
        self._kept[slot] = cells

    def drop(self, slot: int) -> None:
        """Forget a sequence; its id is free again, and the cells that no other one has."""
        self._kept.pop(slot, None)
        self._context.cut(slot, 0)
        self._free.append(slot)

    def clear(self) -> None:
        """Drop all that are kept."""
        while self.evict():
            pass

    def evict(self, spare: int | None = None) -> bool:
        """Drop the least recently used of the kept, but not `spare`. False when there is none."""
        oldest = next((slot for slot in self._kept if slot != spare), None)
        if oldest is None:
            return False
        self.drop(oldest)
        return True
