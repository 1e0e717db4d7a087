"""What the next step computes: a token of every answer, and pieces of the prompts that wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gguf_vl.engine.cells import Placed
from gguf_vl.engine.sequence import Sequence

STEP_S = 0.25
"""Seconds that pieces of prompts may hold up the answers beside them, in one step."""
_FIRST, _LEAST = 64, 16
"""Cells of a piece before anything was measured, and however slow the machine is."""


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

    No call takes more than `n_batch` cells, and pieces of prompts no more than `n_prefill` together: half of them are
    for who came first, as far as it needs them, the others for who needs the fewest. An answer may have `n_outputs`
    rows with logits, one and a draft.
    """
    waiting = [each for each in sequences if each.slot is not None and each.computed < each.cells.n]
    text = [
        Piece(each, each.computed, each.cells.n, draft=each.draft(n_outputs - 1))
        for each in waiting
        if each.is_generating
    ]
    work = Work(text, [], [])
    room = {"text": n_batch - sum(1 + len(piece.draft) for piece in text), "pictures": n_batch}
    prompts = [each for each in waiting if not (each.is_generating or each.waits_for_picture)]
    kept = min(_left(prompts[0]), n_prefill // 2) if prompts else 0
    for each in sorted(prompts, key=_left):
        kept = 0 if each is prompts[0] else kept
        last = each.cells.n - 1
        if each.embeds and each.computed == last:
            work.embedded.append(Piece(each, last, each.cells.n))
            continue
        placed = each.cells.picture_at(each.computed)
        kind, pieces = ("pictures", work.pictures) if placed else ("text", work.text)
        following = each.cells.next_picture(each.computed)
        end = placed.end if placed else following.start if following else last if each.embeds else each.cells.n
        n = min(end - each.computed, room[kind], n_prefill - kept)
        if n > 0:
            pieces.append(Piece(each, each.computed, each.computed + n, placed))
            room[kind] -= n
            n_prefill -= n
    return work


def _left(sequence: Sequence) -> int:
    """Cells of a prompt that are still to be computed."""
    return sequence.cells.n - sequence.computed


class Pace:
    """How many cells of prompts a step may take: all it can, or what lasts `STEP_S`."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._answers_s: dict[int, float] = {}
        self.seconds_per_cell: float | None = None
        self.cost = 1.0
        """How much longer the latest step with nothing but answers took than one of as many without drafts."""

    def n_prefill(self, *, short: bool) -> int:
        """Cells for the next step."""
        if not short:
            return self._n_batch
        if self.seconds_per_cell is None:
            return _FIRST
        return max(_LEAST, min(self._n_batch, int(STEP_S / self.seconds_per_cell)))

    def took(self, seconds: float, *, n_prompt: int = 0, n_answers: int = 0, drafted: bool = False) -> None:
        """llama.cpp took so long for a step with so many cells of prompts and so many answers."""
        answers_s = self._answers_s.get(n_answers)
        if n_prompt >= _LEAST:
            per_cell = max(seconds - (answers_s or 0.0), 0.1 * seconds) / n_prompt
            self.seconds_per_cell = _followed(self.seconds_per_cell, per_cell)
        elif not n_prompt:
            self.cost = seconds / answers_s if answers_s else 1.0
            if not drafted:
                self._answers_s[n_answers] = _followed(answers_s, seconds)


def _followed(value: float | None, latest: float) -> float:
    """A mean that forgets."""
    return latest if value is None else value + 0.3 * (latest - value)
