"""When nothing is asked: what is kept goes to disk, so that a chat of yesterday goes on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from gguf_vl.engine.cells import Cells
from gguf_vl.engine.kept.sequences import SequenceFiles
from gguf_vl.engine.kept.slots import Slots
from gguf_vl.engine.schedule import Pace

if TYPE_CHECKING:
    from gguf_vl.native.context import Context

DISK_BPS = 500_000_000
"""Bytes per second that a disk is sure to read."""


class Spill:
    """Writes kept sequences, one a step, where computing one again takes longer than `worth_s` and than reading it."""

    def __init__(self, files: SequenceFiles, slots: Slots, context: Context, pace: Pace, *, worth_s: float) -> None:
        self.written = 0
        self._files = files
        self._slots = slots
        self._context = context
        self._pace = pace
        self._worth_s = worth_s
        self._considered = WeakSet[Cells]()

    @property
    def has_work(self) -> bool:
        """Whether a sequence is kept that was not looked at, and none is still on its way to disk."""
        return not self._files.is_busy and any(cells not in self._considered for _, cells in self._slots.latest())

    def step(self) -> None:
        """Look at the latest sequence that was not, and write it where that pays. Takes as long as the disk does."""
        for slot, cells in self._slots.latest():
            if cells not in self._considered:
                self._considered.add(cells)
                if self._pays(slot, cells):
                    self.written += self._files.write(self._context, slot, cells)
                return

    def _pays(self, slot: int, cells: Cells) -> bool:
        seconds = cells.n * (self._pace.seconds_per_cell or 0.0)
        return seconds > self._worth_s and seconds > self._context.state_bytes(slot) / DISK_BPS
