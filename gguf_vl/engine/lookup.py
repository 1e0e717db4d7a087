"""Speculation without a second model: the answer's next tokens, guessed from what stood behind the same words before.

A draft is verified in one batch with the token before it, so a wrong one costs time and never changes the answer. What
drafts is a `Drafter`; a smaller model could be another. `Worth` decides whether to draft at all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol

PICTURE = -1
"""Stands in a history where the model read a picture: it is never drafted, nor is anything matched across it."""
_CONTEXT = 4
"""Tokens before a place that are compared: the more of them are the same, the likelier is the rest."""
_LEAST = 2
_PLACES = 8
"""Places with the same two tokens that are compared, the latest first."""


class Drafter(Protocol):
    """Guesses how a sequence of tokens goes on."""

    def extend(self, tokens: Iterable[int]) -> None:
        """Take tokens of the prompt or of the answer as they become certain."""

    def draft(self, n_most: int) -> Sequence[int]:
        """Up to `n_most` tokens that may come next, none where there is nothing to go by."""


class PromptLookup:
    """Drafts what followed the latest earlier place with the same last tokens: four of them, or three, or two.

    Takes the same time for each token however long the history is, and at most some 150 bytes.
    """

    def __init__(self) -> None:
        self._tokens = array("i")
        self._latest: dict[int, int] = {}  # by two tokens, the place behind them
        self._earlier = array("i")  # by place, the one before it behind the same two tokens; -1 where there is none

    def extend(self, tokens: Iterable[int]) -> None:
        """Take tokens of the prompt or of the answer as they become certain, `PICTURE` for a picture."""
        for token in tokens:
            # Only now that something follows them, the two tokens before count as a place.
            pair = self._last_two()
            if pair is None:
                self._earlier.append(-1)
            else:
                self._earlier.append(self._latest.get(pair, -1))
                self._latest[pair] = len(self._tokens)
            self._tokens.append(token)

    def _last_two(self) -> int | None:
        """The last two tokens as one number; None where there are none, or a picture is between."""
        if len(self._tokens) < _LEAST or PICTURE in (last := self._tokens[-_LEAST:]):
            return None
        return last[0] << 32 | last[1]

    def draft(self, n_most: int) -> Sequence[int]:
        """Up to `n_most` tokens that may come next, none where the last two have not come together before."""
        place = self._best_place()
        if place is None:
            return ()
        found = self._tokens[place : place + n_most]
        return found[: found.index(PICTURE)] if PICTURE in found else found

    def _best_place(self) -> int | None:
        """Of the latest places behind the same tokens the one with most of them, and of those the latest."""
        tokens, end = self._tokens, len(self._tokens)
        pair = self._last_two()
        place = -1 if pair is None else self._latest.get(pair, -1)
        best, most = None, 0
        for _ in range(_PLACES):
            if place < 0:
                break
            n_same = _LEAST
            while n_same < min(_CONTEXT, place) and tokens[place - 1 - n_same] == tokens[end - 1 - n_same] != PICTURE:
                n_same += 1
            if n_same > most:
                best, most = place, n_same
            if most == _CONTEXT:
                break
            place = self._earlier[place]
        return best


class Worth:
    """Whether drafting pays for one answer, by what was accepted of its latest drafts.

    A step with a draft gives one token and those accepted, and takes longer than one without: `cost`, the ratio of the
    two, as measured by who runs the steps. Where it does not pay, drafting rests, for longer each time, and is then
    tried again: an answer that begins with thoughts may go on with a copy.
    """

    TRIAL = 4
    """Drafts of a trial."""
    REST = 32
    """Steps without a draft after a trial that failed, twice as many after each further one, up to `LONGEST_REST`."""
    LONGEST_REST = 1024
    _MEMORY = 0.8
    """Weight of what came before against the latest draft: some five drafts count."""

    def __init__(self) -> None:
        self._accepted = 0.0  # tokens per draft, the latest counting most
        self._n_drafts = 0
        self._rest = self.REST
        self._resting = 0

    def should_draft(self) -> bool:
        """Whether to draft in this step. To be asked once for each step in which there is something to draft."""
        if self._resting:
            self._resting -= 1
            return False
        return True

    def observe(self, n_accepted: int, cost: float) -> None:
        """Take the outcome of a draft: tokens of it that were accepted, and time with it ÷ time without."""
        self._n_drafts += 1
        weight = max(1 - self._MEMORY, 1 / self._n_drafts)
        self._accepted += weight * (n_accepted - self._accepted)
        pays = 1 + self._accepted > cost
        if self._n_drafts < self.TRIAL:
            return
        if pays:
            self._rest = self.REST
        else:
            self._resting, self._rest = self._rest, min(2 * self._rest, self.LONGEST_REST)
            self._n_drafts, self._accepted = 0, 0.0
