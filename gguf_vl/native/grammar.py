"""A grammar that an answer is held to, in llama.cpp's GBNF.

llama.cpp's grammar sampler looks at every token of the vocabulary, which takes milliseconds. Looking at one takes
microseconds, and a model that was told what is wanted seldom chooses a token that the grammar refuses. So a request
with a grammar is sampled like this, in place of `llama_sampler_sample`:

    token = grammar.sample(chain, logits)       # both the chain and the grammar have accepted it

The chain chooses from all tokens; only when the grammar refuses its choice, the chain chooses again from those that
the grammar allows. One grammar belongs to one answer. Tokens that speculation drafted need nothing more: each is
compared with what `sample` chose from the logits before it, so the grammar never sees one that has to be taken back.
"""

from __future__ import annotations

import codecs
import ctypes
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_cpp import llama_cpp as llama

from gguf_vl.errors import EngineError, UsageError
from gguf_vl.native import gbnf
from gguf_vl.native.gbnf_readings import too_many_ways
from gguf_vl.native.owned import Owned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gguf_vl.native.model import Model

_CLOSE = "</think>"
_LIKELIEST = 1024
"""Tokens that are looked at first when a choice was refused: they nearly always hold one that the grammar allows."""
_AT_ONCE = 4096
"""Tokens that llama.cpp looks at in one call."""
_START_S = 2.0
"""Seconds of a CPU that the grammar of one answer may take at once."""
_TOKEN_S = 0.05
"""Seconds more for each token of the answer. To look at all 151,936 takes half of that, and is seldom needed."""
_UTF8 = codecs.getincrementaldecoder("utf-8")
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data`."""


class Grammar(Owned):
    """The state of one answer in a grammar, from its rule `root` on: of what follows its reasoning, where that is open,
    and with `behind` of what begins with that token; an answer without it is free to its end.

    What is free is not the grammar's: llama.cpp's rule for any token but one takes no first half of a character.
    Control tokens other than an end are refused: to llama.cpp their spelling is text, to a reader they are nothing. So
    is what is no UTF-8, and an end within a character: llama.cpp takes them for characters.

    Raises `UsageError` when the text is no GBNF that llama.cpp can take, or names a token that this model has not.
    """

    def __init__(self, model: Model, text: str, *, thinking: bool = False, behind: str | None = None) -> None:
        self._grammar: Any = None
        self._model = model
        self._n_vocab = model.n_vocab
        self._character = b""  # the bytes of one that is not complete yet
        root = "root"
        if thinking and not behind:
            root = "behind-thinking"
            text += f"\n{root} ::= [\\n]{{0,2}} root"
        free_until = [*([_CLOSE] if thinking else []), *([behind] if behind else [])]
        for token in gbnf.check(text, root) | {*free_until}:
            if not _has(model, token):
                raise UsageError(
                    f"The grammar names the token {token}, which this model lacks.", "Correct the GBNF text."
                )
        self._grammar = llama.llama_sampler_init_grammar(model.vocab, text.encode(), root.encode())
        if not self._grammar:
            raise UsageError(
                "llama.cpp cannot take this grammar: repetitions in repetitions make more than 2,000 rules, or what is "
                "repeated may be empty.",
                "Make it simpler.",
            )
        self._free_until = [model.special_tokens[token] for token in free_until]
        self._thinks, self._begins_itself = thinking, behind is None
        self._refused = frozenset(_control_tokens(model))
        self._one = _Candidates(1)
        self._all = _Candidates(model.n_vocab)
        self._tokens = np.arange(model.n_vocab, dtype=np.int32)
        self._time = _Time()

    def allows(self, token: int) -> bool:
        """Whether the answer may go on with this token, or end, where it is an end. A few microseconds.

        Raises `UsageError` where the answer's grammar has taken too long: it reads what was said in too many ways.
        """
        if not 0 <= token < self._n_vocab or token in self._refused:
            return False
        if self._free_until:
            may_be = not (self._thinks and self._model.ends_answer(token))
            return may_be and self._begun_character(token) is not None
        return self._takes(token) and self._begun_character(token) is not None

    def _takes(self, token: int) -> bool:
        """Whether llama.cpp's grammar does."""
        self._one.fill(token, 0.0)
        with self._time:
            self._one.apply(self._grammar)
        return bool(self._one.logits[0] == 0)

    def accept(self, token: int) -> None:
        """Go on behind this token. Raises `EngineError` where the grammar refuses it: llama.cpp would abort.

        Raises `UsageError` as `allows` does.
        """
        if not self.allows(token):
            raise EngineError("A token was to be accepted that the grammar refuses.", "Report this with the grammar.")
        self._character = self._begun_character(token) or b""
        if self._free_until:
            if token == self._free_until[0]:
                del self._free_until[0]
                self._thinks = False
            if self._free_until or self._begins_itself:
                return
            if not self._takes(token):
                raise EngineError("The grammar does not begin with its own token.", "Report this with the grammar.")
        with self._time:
            llama.llama_sampler_accept(self._grammar, token)
        self._time.add(_TOKEN_S)

    def sample(self, chain: Any, logits: NDArray[np.float32]) -> int:
        """The next token by llama.cpp's sampler chain, from the logits of all tokens, [n_vocab] float32.

        The chain and the grammar have accepted it. Raises `EngineError` where the grammar leaves no token, and as
        `accept` does.
        """
        token = self._choose(chain, self._tokens, logits)
        if not self.allows(token):
            allowed = self._allowed(logits)
            token = self._choose(chain, allowed, logits[allowed])
            while self._begun_character(token) is None and len(allowed) > 1:
                allowed = allowed[allowed != token]
                token = self._choose(chain, allowed, logits[allowed])
        self.accept(token)
        llama.llama_sampler_accept(chain, token)
        return token

    def _begun_character(self, token: int) -> bytes | None:
        """The bytes of an incomplete character that the answer would end with; None where it would be no UTF-8."""
        if self._model.ends_answer(token):
            return None if self._character else b""
        decoder = _UTF8()
        try:
            decoder.decode(self._character + self._model.piece(token))
        except UnicodeDecodeError:
            return None
        begun = decoder.getstate()[0]
        # Python's decoder waits for the third byte of half a surrogate pair before it complains.
        return None if begun[:1] == b"\xed" and begun[1:2] >= b"\xa0" else begun

    def _choose(self, chain: Any, tokens: NDArray[np.int32], logits: NDArray[np.float32]) -> int:
        self._all.fill(tokens, logits)
        self._all.apply(chain)
        return self._all.selected

    def _allowed(self, logits: NDArray[np.float32]) -> NDArray[np.int32]:
        """The tokens that the grammar allows: of the likeliest, if any of those, else of all.

        So the likeliest token allowed is always there, and a cut below the thousandth place hardly changes a draw.
        """
        likeliest = np.argpartition(logits, -_LIKELIEST)[-_LIKELIEST:] if len(logits) > _LIKELIEST else self._tokens
        for tokens in (likeliest, self._tokens):
            chunks = [tokens[start : start + _AT_ONCE] for start in range(0, len(tokens), _AT_ONCE)]
            allowed = [token for chunk in chunks for token in self._allowed_of(chunk)]
            if allowed:
                return np.array(allowed, np.int32)
        raise EngineError("The grammar leaves no token to go on with.", "Report this with the grammar.")

    def _allowed_of(self, tokens: NDArray[np.integer[Any]]) -> list[int]:
        if self._free_until:
            return [int(token) for token in tokens if self.allows(int(token))]
        self._all.fill(tokens, 0.0)
        with self._time:
            self._all.apply(self._grammar)
        return [int(token) for token in self._all.tokens[self._all.logits == 0] if token not in self._refused]

    def close(self) -> None:
        """Release the grammar. Harmless when done twice."""
        if self._grammar:
            llama.llama_sampler_free(self._grammar)
            self._grammar = None


def _has(model: Model, token: str) -> bool:
    return int(token[2:-2]) < model.n_vocab if token.startswith("<[") else token in model.special_tokens


def _control_tokens(model: Model) -> Iterator[int]:
    for token in model.special_tokens.values():
        attributes = llama.llama_vocab_get_attr(model.vocab, token)
        if attributes & llama.LLAMA_TOKEN_ATTR_CONTROL and not model.ends_answer(token):
            yield token


class _Time:
    """The seconds of a CPU that an answer's grammar has left. All others wait for them.

    Where one text is read in many ways they grow with its length, or double with each character. Raises `UsageError`
    when none are left.
    """

    def __init__(self) -> None:
        self._left = _START_S
        self._began = 0.0

    def add(self, seconds: float) -> None:
        """Give it more; never more than at the start."""
        self._left = min(self._left + seconds, _START_S)

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._left -= time.thread_time() - self._began
        if self._left < 0:
            raise too_many_ways()


class _Candidates:
    """`llama_token_data_array` over memory that is used again and again, for up to `room` tokens."""

    def __init__(self, room: int) -> None:
        self._rows = np.zeros(room, _CANDIDATE)
        self._data: Any = self._rows.ctypes.data_as(llama.llama_token_data_p)
        self._array = llama.llama_token_data_array()
        self._reference = ctypes.byref(self._array)

    def fill(self, tokens: NDArray[np.integer[Any]] | int, logits: NDArray[np.float32] | float) -> None:
        """Put tokens with their logits in, in place of what was there."""
        size = np.size(tokens)
        self._rows["id"][:size] = tokens
        self._rows["logit"][:size] = logits
        self._array.data = self._data  # a sampler may have put a pointer of its own there
        self._array.size = size
        self._array.selected = -1
        self._array.sorted = False

    def apply(self, sampler: Any) -> None:
        """Let a sampler change logits, sort, drop and select."""
        llama.llama_sampler_apply(sampler, self._reference)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Those that are left."""
        return self._rows["id"][: self._array.size]

    @property
    def logits(self) -> NDArray[np.float32]:
        """Of those that are left."""
        return self._rows["logit"][: self._array.size]

    @property
    def selected(self) -> int:
        """The token that a sampler has selected."""
        return int(self._array.data[self._array.selected].id)
