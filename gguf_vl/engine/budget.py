"""A Thinking model's reasoning, ended after so many tokens, so that there is an answer."""

from __future__ import annotations

import codecs
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf_vl.native.model import Model

_OPEN, _CLOSE = "<think>", "</think>"
_WORDS = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
)
"""What ends the reasoning: Qwen's own words for it (Qwen3 Technical Report, 4.3, "Thinking Budget")."""

_LONGEST_CHARACTER = 4
"""Bytes in UTF-8."""


class ThinkingBudget:
    """Counts the reasoning tokens of one answer, and says which tokens to take when they are used up.

    Before each token is sampled `forced` is asked, and taken in its place where it is not None; the sampler and the
    grammar accept it like any other. Each token of the answer, forced or not, is told with `push`. `thinking` says
    that the prompt has already opened the reasoning. A character that is begun is ended first. Does nothing with a
    model that has no token for the reasoning's end.
    """

    def __init__(self, model: Model, n_tokens: int, *, thinking: bool) -> None:
        self._model = model
        self._open, self._close = (model.special_tokens.get(tag) for tag in (_OPEN, _CLOSE))
        self._closing: list[int] = []
        if self._close is not None:
            self._closing = [*model.tokenize(_WORDS), self._close, *model.tokenize("\n\n")]
        self._left = n_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._thinking = thinking
        self._waiting: deque[int] = deque()
        self._end_if_spent()

    @property
    def forced(self) -> int | None:
        """The token to take next, None where the model is free."""
        return self._waiting[0] if self._waiting else None

    def push(self, token: int) -> None:
        """Take the answer's next token."""
        if self._waiting:
            self._waiting.popleft()
            return
        if token == self._close:
            self._thinking = False
        elif self._thinking:
            self._left -= 1
            self._decoder.decode(self._model.piece(token))
        elif token == self._open:
            self._thinking = True
        self._end_if_spent()

    def _end_if_spent(self) -> None:
        is_within_character = bool(self._decoder.getstate()[0]) and self._left > -_LONGEST_CHARACTER
        if self._thinking and self._left <= 0 and not is_within_character:
            self._waiting.extend(self._closing)
            self._thinking = False
