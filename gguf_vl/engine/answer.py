"""From the bytes of tokens to the events a person reads."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from gguf_vl.types import Text, Thinking

_OPEN = "<think>"
_CLOSE = "</think>"


class Answer:
    """One answer as it grows.

    Whole characters only: bytes of a character split over tokens wait for the rest. Text that may turn out to be the
    beginning of a stop string or of a `<think>` tag waits too. `thinking` says that the prompt has already opened the
    reasoning, `begun` that it holds the beginning of the answer itself. `stopped_by` becomes the stop string that has
    come, which is not part of the answer.
    """

    def __init__(self, *, stop: Sequence[str] = (), thinking: bool = False, begun: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(filter(None, stop))
        self._thinking = thinking
        self._begun = begun  # whether anything but white space has come in the present part
        self._may_open = not (thinking or begun)
        self._held = ""
        self.stopped_by = ""

    def push(self, piece: bytes) -> list[Text | Thinking]:
        """The events that a token's bytes complete."""
        self._held += self._decoder.decode(piece)
        return self._release(final=False)

    def finish(self) -> list[Text | Thinking]:
        """What was still held back. A character left incomplete is dropped."""
        return self._release(final=True)

    def _release(self, *, final: bool) -> list[Text | Thinking]:
        events: list[Text | Thinking] = []
        while self._held and not self.stopped_by:
            tags = (_CLOSE,) if self._thinking else ((_OPEN,) if self._may_open else ())
            watched = tags if self._thinking else (*tags, *self._stop)
            at, found = min(((self._held.find(word), word) for word in watched if word in self._held), default=(-1, ""))
            if found and found == _OPEN and self._held[:at].strip():
                self._may_open = False  # in the midst of an answer it is only text
                continue
            if found:
                self._emit(self._held[:at], events)
                self._held = self._held[at + len(found) :]
                self._switch(found)
                continue
            keep = 0 if final else max((overlap(self._held, word) for word in watched), default=0)
            cut = len(self._held) - keep
            self._emit(self._held[:cut], events)
            self._held = self._held[cut:]
            break
        return events

    def _switch(self, found: str) -> None:
        if found in (_OPEN, _CLOSE):
            self._thinking = found == _OPEN
            self._may_open = False
            self._begun = False
        else:
            self.stopped_by = found

    def _emit(self, text: str, events: list[Text | Thinking]) -> None:
        if not self._begun and (self._thinking or not self._may_open):
            text = text.lstrip("\n")  # Qwen puts line breaks round its tags
        if not text:
            return
        self._begun = True
        if text.strip():
            self._may_open = False
        events.append(Thinking(text) if self._thinking else Text(text))


def overlap(text: str, word: str) -> int:
    """How many characters at the end of `text` are a beginning of `word`, short of all of it."""
    return next((n for n in range(min(len(text), len(word) - 1), 0, -1) if text.endswith(word[:n])), 0)
