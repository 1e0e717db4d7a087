"""Who computes now: the loop, a step at a time, or the encoder, some nodes of its graph at a time.

Both on one CPU would wait for each other's spinning threads. So they take turns, each with all of the threads: between
two nodes the encoder lets a step go first, once it has computed for as long as the latest step took. One node of a
large picture may last for seconds. A step that has waited for `PATIENCE_S` goes on beside it, with one thread: a single
one spins for nobody. Who lets the other go on gives up the threads that OpenMP keeps for it (`native/openmp.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gguf_vl.native import openmp

PATIENCE_S = 1.0
"""Seconds a step waits for the encoder to end a node. Beside it both are slow: shorter waits cost more than they
give."""
_LATELY_S = 1.0
_LOOK_EVERY_S = 0.05


def in_each_others_way(n_threads: int, n_cores: int) -> bool:
    """Whether a loop and an encoder of so many threads each must take turns on so many cores. One thread waits for no
    other, so that two of them go on side by side where there are two cores.
    """
    return n_threads > 1 or n_cores < 2


class Turns:
    """One processor for a loop's thread and an encoder's. `rest` is called on the one whose turn is over."""

    def __init__(self, rest: Callable[[], None] = openmp.rest) -> None:
        self.rest = rest
        self._changed = threading.Condition()
        self._wanted = False
        self._stepping = False
        self._encoding = False
        self._has_picture = False
        self._encoder_waits = self._owed = False  # owed: the turn behind the step that it waited for
        self._since = 0.0
        self._step_s = 0.0
        self._stepped = float("-inf")

    @property
    def contended(self) -> bool:
        """Whether there was a step lately: the encoder should look between its nodes as often as it can."""
        return self._wanted or time.perf_counter() - self._stepped < _LATELY_S

    @contextmanager
    def step(self) -> Iterator[bool]:
        """The loop's turn, inside. Says whether it has the processor for itself."""
        with self._changed:
            self._wanted = True
            alone = self._changed.wait_for(lambda: not (self._encoding or self._owed), PATIENCE_S)
            self._wanted, self._stepping = False, alone
        began = time.perf_counter()
        try:
            yield alone
        finally:
            if self._has_picture:
                self.rest()
            with self._changed:
                self._stepped = time.perf_counter()
                self._step_s = self._stepped - began
                self._stepping = False
                self._owed = self._encoder_waits
                self._changed.notify_all()

    @contextmanager
    def encode(self) -> Iterator[None]:
        """The encoder's turns, inside; it calls `let_go` now and then."""
        self._has_picture = True
        self._take()
        try:
            yield
        finally:
            self._has_picture = False
            self._give()

    def let_go(self, gives_way: Callable[[], bool] = lambda: False) -> None:
        """Between two nodes: let a waiting step go first, where the encoder has had its share; while it `gives_way`,
        all that follow one another.
        """
        if self._wanted and (gives_way() or time.perf_counter() - self._since >= self._step_s):
            self.rest()
            self._give()
            with self._changed:
                while gives_way() and self.contended:
                    self._changed.wait(_LOOK_EVERY_S)
            self._take()

    def _take(self) -> None:
        with self._changed:
            self._encoder_waits = True
            self._changed.wait_for(lambda: not self._stepping and (self._owed or not self._wanted))
            self._encoder_waits = self._owed = False
            self._encoding = True
            self._since = time.perf_counter()

    def _give(self) -> None:
        with self._changed:
            self._encoding = False
            self._changed.notify_all()
