"""What the next step computes: a token of every answer, and pieces of the prompts that wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gguf_vl.engine.cells import Placed
from gguf_vl.engine.sequence import Sequence

STEP_S = 0.25
"""Seconds that pieces of prompts may hold up the answers beside them, in one step."""
_LEAST = 16
"""Cells of a piece, however slow the machine is."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a step computes, a call each: llama.cpp takes tokens or embeddings, and tells all hidden states or none."""

    text: list[Piece]
    pictures: list[Piece]
    embedded: list[Piece]


@dataclass(frozen=True, slots=True)
class Piece:
    """Cells of a sequence to compute, from `start` to `end` (not included). `placed` is the picture they belong to.

    Behind them a `draft` of tokens is computed on trial.
    """

    sequence: Sequence
    start: int
    end: int
    placed: Placed | None = None
    draft: tuple[int, ...] = ()

    @property
    def has_output(self) -> bool:
        """Whether a token is sampled behind it."""
        return self.end == self.sequence.cells.n and self.sequence.is_asked


def schedule(sequences: Iterable[Sequence], n_batch: int, n_prefill: int, n_outputs: int = 1) -> Work:
    """The work of one step, of open sequences in the order in which they came.

    No call takes more than `n_batch` cells, and pieces of prompts no more than `n_prefill` together. An answer may have
    `n_outputs` rows with logits, one and a draft.
    """
    waiting = [each for each in sequences if each.slot is not None and each.computed < each.cells.n]
    text = [
        Piece(each, each.computed, each.cells.n, draft=each.draft(n_outputs - 1))
        for each in waiting
        if each.is_generating
    ]
    work = Work(text, [], [])
    room = {"text": n_batch - sum(1 + len(piece.draft) for piece in text), "pictures": n_batch}
    for each in waiting:
        if each.is_generating or each.waits_for:
            continue
        last = each.cells.n - 1
        if each.embeds and each.computed == last:
            work.embedded.append(Piece(each, last, each.cells.n))
            continue
        placed = each.cells.picture_at(each.computed)
        kind, pieces = ("pictures", work.pictures) if placed else ("text", work.text)
        following = each.cells.next_picture(each.computed)
        end = placed.end if placed else following.start if following else last if each.embeds else each.cells.n
        n = min(end - each.computed, room[kind], n_prefill)
        if n > 0:
            pieces.append(Piece(each, each.computed, each.computed + n, placed))
            room[kind] -= n
            n_prefill -= n
    return work


class Pace:
    """How many cells of prompts a step may take: all it can while nobody is answered, else what lasts `STEP_S`."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self.seconds_per_cell = STEP_S / n_batch

    def n_prefill(self, *, answering: bool) -> int:
        """Cells for the next step."""
        if not answering:
            return self._n_batch
        return max(_LEAST, min(self._n_batch, int(STEP_S / self.seconds_per_cell)))

    def took(self, n_cells: int, seconds: float) -> None:
        """A step with so many cells of prompts took so long."""
        if n_cells >= _LEAST:
            self.seconds_per_cell += 0.3 * (seconds / n_cells - self.seconds_per_cell)
