"""Sequences are kept for those that begin like them, the least recently used going first."""

from __future__ import annotations

from typing import cast

from gguf_vl.engine.cells import Cells
from gguf_vl.engine.kept.slots import Slots
from gguf_vl.native.context import Context
from tests.engine.test_cells import picture


class Recorded:
    """A context that only takes notes."""

    def __init__(self, n_seqs: int) -> None:
        self.n_seqs = n_seqs
        self.shared: list[tuple[int, int, int]] = []
        self.cuts: list[tuple[int, int]] = []

    def share(self, source: int, target: int, end: int) -> None:
        self.shared.append((source, target, end))

    def cut(self, sequence: int, position: int) -> None:
        self.cuts.append((sequence, position))


def made(n_seqs: int) -> tuple[Slots, Recorded]:
    context = Recorded(n_seqs)
    return Slots(cast("Context", context)), context


def kept(slots: Slots, *tokens: int) -> int:
    """A sequence of these tokens that is done."""
    cells = Cells([tokens])
    slot, _ = slots.open(cells, [])
    slots.keep(slot, cells)
    return slot


def test_a_request_begins_where_the_kept_sequence_that_is_most_like_it_ends() -> None:
    slots, context = made(8)
    kept(slots, 1, 2, 3)
    best = kept(slots, 1, 2, 9, 4)
    slot, n = slots.open(Cells([(1, 2, 9, 5)]), [])
    assert n == 3
    assert context.shared[-1] == (best, slot, 3)


def test_the_last_cell_is_left_to_compute_and_a_picture_is_shared_whole_or_not_at_all() -> None:
    slots, _ = made(8)
    kept(slots, 1, 2, 3)
    assert slots.open(Cells([(1, 2, 3)]), [])[1] == 2
    seen = Cells([(1,), picture(3, 3), (2, 3)])
    slot, _ = slots.open(seen, [])
    slots.keep(slot, seen)
    assert slots.open(Cells([(1,), picture(3, 3), (2, 7)]), [])[1] == 11
    assert slots.open(Cells([(1,), picture(3, 3)]), [])[1] == 1
    assert slots.open(Cells([(1,), picture(3, 3, "b"), (2,)]), [])[1] == 1


def test_a_request_begins_like_one_that_is_still_running() -> None:
    slots, context = made(8)
    running = Cells([(1, 2, 3, 4)])
    other, _ = slots.open(running, [])
    slot, n = slots.open(Cells([(1, 2, 3, 9)]), [(other, running.copy(2))])
    assert (n, context.shared[-1]) == (2, (other, slot, 2))


def test_what_a_longer_sequence_holds_is_not_kept_twice() -> None:
    slots, _ = made(8)
    kept(slots, 1, 2)
    kept(slots, 1, 2, 3)
    assert slots.n_kept == 1
    kept(slots, 1, 2)
    assert (slots.n_kept, slots.kept_cells) == (1, 3)


def test_a_sequence_that_was_left_before_its_first_cell_leaves_nothing() -> None:
    slots, context = made(3)
    empty = kept(slots)
    assert (slots.n_kept, slots.n_free, context.cuts[-1]) == (0, 3, (empty, 0))
    first, second = kept(slots, 1, 1), kept(slots, 2, 2)
    kept(slots)
    assert [slot for slot, _ in slots.latest()] == [second, first]


def test_the_least_recently_used_is_dropped_when_ids_run_out() -> None:
    slots, context = made(3)
    first, second, third = kept(slots, 1, 1), kept(slots, 2, 2), kept(slots, 3, 3)
    slots.open(Cells([(1, 1, 5)]), [])
    assert context.cuts[-1] == (second, 0)
    assert [slot for slot, _ in slots.latest()] == [first, third]


def test_where_only_one_is_kept_and_no_id_is_free_it_is_continued_itself() -> None:
    slots, context = made(1)
    only = kept(slots, 1, 2, 3)
    assert slots.open(Cells([(1, 2, 9)]), []) == (only, 2)
    assert context.cuts[-1] == (only, 2)
    assert context.shared == []
    assert not slots.evict()
