"""Notices that an answer only repeats itself."""

from __future__ import annotations

import numpy as np

LONGEST_PERIOD = 256
"""Tokens of the longest passage whose repetition is noticed: some ten lines of text."""
MOST_REPEATED = 512
"""Tokens that may repeat what stood one period before. At 25 tokens a second they are 20 seconds of nothing new.

Rows of zeros, rulers of dashes, blank cells of a table and "ha ha ha" stay below; a picture of text seldom holds more.
"""
MOST_REPEATS = 6
"""Times that a longer passage may be repeated word for word: labels on a sheet, a chorus."""


class LoopGuard:
    """Watches the tokens of one answer.

    A loop is a passage of up to `LONGEST_PERIOD` tokens that comes again word for word, more than `MOST_REPEATS` times
    and with more than `MOST_REPEATED` tokens. What changes each time, as numbers in a list do, is none.

    Costs a few microseconds per token, whatever the answer's length: for every period at once it counts how many of
    the latest tokens are the same as the token one period before.
    """

    def __init__(self) -> None:
        # The latest tokens, newest last, written twice so that the window is always in one piece.
        self._tokens = np.full(2 * LONGEST_PERIOD, -1, np.int32)
        self._at = 0
        self._n_same = np.zeros(LONGEST_PERIOD, np.int32)  # by period, the longest first
        periods = np.arange(LONGEST_PERIOD, 0, -1, dtype=np.int32)
        self._allowed = np.maximum(periods * MOST_REPEATS, MOST_REPEATED)

    def push(self, token: int) -> bool:
        """Take the answer's next token. True when it is looping."""
        window = self._tokens[self._at : self._at + LONGEST_PERIOD]
        self._n_same += 1
        self._n_same *= window == token
        self._tokens[self._at] = self._tokens[self._at + LONGEST_PERIOD] = token
        self._at = (self._at + 1) % LONGEST_PERIOD
        return bool((self._n_same > self._allowed).any())
