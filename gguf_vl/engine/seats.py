"""Who is answered now, who waits, and who makes way. Nothing is computed here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import takewhile

from gguf_vl.engine.cells import Cells
from gguf_vl.engine.kept.slots import Slots
from gguf_vl.engine.sequence import Sequence
from gguf_vl.errors import Busy
from gguf_vl.types import Progress

QUEUE = 256
"""Requests that may wait."""
_WORTH_WAITING = 32
"""Cells that a request waits for, where another is about to compute them, instead of computing them too."""


class Seats:
    """Requests in the order in which they came: the `open` ones, at most `n_seq_max` of them asked for, then those that
    are `waiting`; behind them what is only wanted `ahead` of its question.

    An open one has no slot yet while another computes what it begins with.
    """

    def __init__(self, slots: Slots, *, n_ctx: int, n_seq_max: int) -> None:
        self.open: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.ahead: deque[Sequence] = deque()
        self.preempted = self.restored = self.tokens_reused = 0
        self._overflowed = False
        self._slots = slots
        self._n_ctx = n_ctx
        self._n_seq_max = n_seq_max

    def __iter__(self) -> Iterator[Sequence]:
        return iter([*self.open, *self.waiting, *self.ahead])

    def check_queue(self, *, ahead: bool = False) -> None:
        """Raises `Busy` where too many wait already, or are only wanted ahead."""
        if len(self.ahead if ahead else self.waiting) >= QUEUE:
            raise Busy(f"{QUEUE} requests wait already.", "Ask again later.")

    @property
    def has_work(self) -> bool:
        """Whether anything can be computed now, without a new request or a picture that is done."""
        runnable = any(not (each.waits_for_picture or self._is_held(each)) for each in self.open)
        return runnable or self._may_admit() or self._may_prepare()

    def admit(self) -> None:
        """Begin whatever may begin, first come first served."""
        while self._may_admit():
            for only_ahead in [each for each in self.open if not each.is_asked]:
                self.leave(only_ahead)
                self.ahead.appendleft(only_ahead)
            self.open.append(self.waiting.popleft())
            self._find_shared()
        if self._may_prepare():
            self.open.append(self.ahead.popleft())
        for each in self.open:
            if each.slot is None and not self._is_held(each):
                self._restore(each)
                slot, n_reused = self._slots.open(each.cells, self._running())
                self.tokens_reused += n_reused if each.opened is None else 0
                each.begin(slot, n_reused)

    def tell_progress(self) -> None:
        """Have each say how far it is, or its place in the queue."""
        for place, each in enumerate(self.waiting, 1):
            if not (each.answered or each.embeds):
                each.tell(Progress("queue", place, len(self.waiting)))
        for each in (*self.open, *self.ahead):
            each.tell_progress()

    def _may_admit(self) -> bool:
        """Whether the next request may begin: there is a seat, and its cells need not push out another's.

        How many cells are shared is a guess. Where that was wrong, nobody begins before another one has ended.
        """
        asked = [each for each in self.open if each.is_asked]
        if not self.waiting or not asked:
            return bool(self.waiting)
        if self._overflowed or len(asked) >= self._n_seq_max:
            return False
        following = self.waiting[0]
        cells = sum(each.cells.n - each.shared for each in asked) + following.cells.n - self._shared(following)
        return cells <= self._n_ctx

    def _may_prepare(self) -> bool:
        """Whether there is nothing else to do than what was asked for ahead."""
        return not self.open and bool(self.ahead) and not self.ahead[0].waits_for_picture

    def _find_shared(self) -> None:
        for each in self.open:
            each.shared = self._shared(each)

    def _shared(self, sequence: Sequence) -> int:
        """Its cells that one which was opened before it has, or will have."""
        return max((each.cells.common(sequence.cells) for each in self._before(sequence)), default=0)

    def _before(self, sequence: Sequence) -> Iterator[Sequence]:
        return takewhile(lambda each: each is not sequence, self.open)

    def _running(self) -> list[tuple[int, Cells]]:
        return [(each.slot, each.cells.copy(each.whole)) for each in self.open if each.slot is not None]

    def _is_held(self, sequence: Sequence) -> bool:
        """Whether it does not begin yet: its file is being read, or one before it is about to compute what both begin
        with.
        """
        if sequence.slot is not None:
            return False
        if sequence.stored and sequence.stored.is_whole is None:
            return True
        soon = max((sequence.cells.reusable(each.cells) for each in self._before(sequence)), default=0)
        return soon - self._here(sequence) >= _WORTH_WAITING

    def _here(self, sequence: Sequence) -> int:
        """How many of its cells are in the cache."""
        return self._slots.source(sequence.cells, self._running())[1]

    def _restore(self, sequence: Sequence) -> None:
        """Take in what was found on disk, where that is still more than what is in the cache."""
        stored, sequence.stored = sequence.stored, None
        if stored and stored.is_whole and sequence.cells.reusable(stored.cells) > self._here(sequence):
            self.restored += self._slots.restore(stored.path, stored.cells, sequence.cells)

    def leave(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Give up an open one's seat. What it has computed is kept for whoever begins like it."""
        self.open.remove(sequence)
        if sequence.slot is not None and keep:
            self._slots.keep(sequence.slot, sequence.cells.copy(sequence.whole))
        elif sequence.slot is not None:
            self._slots.drop(sequence.slot)
        sequence.slot, sequence.computed = None, 0
        self._overflowed = False
        self._find_shared()

    def remove(self, sequence: Sequence) -> None:
        """Forget a request, wherever it is."""
        for queue in (self.waiting, self.ahead):
            if sequence in queue:
                queue.remove(sequence)
        if sequence in self.open:
            self.leave(sequence)

    def make_room(self) -> Sequence | None:
        """The cache is full: drop what is kept, else have the request that came last begin again later.

        The only one cannot make way for itself: it is returned, and can go no further.
        """
        if self._slots.evict():
            return None
        *others, last = self.open
        if not others:
            return last
        self.leave(last, keep=False)
        (self.waiting if last.is_asked else self.ahead).appendleft(last)
        self.preempted += 1
        self._overflowed = True
        return None
