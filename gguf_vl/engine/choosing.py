"""How one answer's next token is found: sampled, held to a grammar, or forced where the reasoning has had its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gguf_vl.engine.budget import ThinkingBudget
from gguf_vl.engine.grammar.schema import grammar_of
from gguf_vl.engine.loops import LoopGuard
from gguf_vl.engine.tools import OPEN, grammar_of_tools
from gguf_vl.errors import UsageError
from gguf_vl.native.grammar import Grammar
from gguf_vl.native.owned import Owned
from gguf_vl.native.sampler import Sampler
from gguf_vl.types import Likely, Request

if TYPE_CHECKING:
    from gguf_vl.native.context import Context
    from gguf_vl.native.model import Model

_MOST_LIKELY = 20
"""As OpenAI's `top_logprobs`."""
_MOST_BIAS = 1e30
"""A bias that is finite in float32 too, where llama.cpp adds it, and several for one token are."""


class Chooser(Owned):
    """Chooses the tokens of one answer. `thinking` says that the prompt has already opened the reasoning.

    Of an answer that goes on the penalties count the `begun` tokens too, the guard against loops does not. Raises
    `UsageError` for a grammar, a schema or tools that cannot be, and for two of them at once; where such an answer is
    to be held to one; for more likelihoods than are told, and for biases that are none.
    """

    def __init__(
        self, model: Model, request: Request, *, window: int, thinking: bool, begun: Sequence[int] = ()
    ) -> None:
        _check(request, model.n_vocab)
        self._model = model
        self._n_likely = request.n_likely
        self._loops = LoopGuard() if request.loop_guard else None
        self._budget = None
        if request.thinking_budget is not None:
            self._budget = ThinkingBudget(model, request.thinking_budget, thinking=thinking)
        self._grammar = None
        sampling = request.sampling
        if text := _grammar_text(request):
            is_free = request.tools and request.tool_choice == "auto" and request.schema is None
            if begun and not is_free:
                raise UsageError(
                    "An answer that has begun cannot be held to a grammar, a schema or a call.",
                    "Leave out that, or the assistant's message at the end.",
                )
            self._grammar = Grammar(model, text, thinking=thinking, behind=OPEN if is_free else None)
        if request.tools and request.tool_choice == "none" and OPEN in model.special_tokens:
            never = (model.special_tokens[OPEN], -_MOST_BIAS)
            sampling = replace(sampling, logit_bias=(*sampling.logit_bias, never))
        self._sampler = Sampler(model, sampling, window=window)
        for token in begun:
            self._sampler.accept(token)

    def choose(self, context: Context, row: int) -> int:
        """The next token, from the logits that `row` of the latest batch had asked for."""
        token = self._budget.forced if self._budget else None
        if token is not None:
            if self._grammar:
                self._grammar.accept(token)
            self._sampler.accept(token)
        elif self._grammar:
            token = self._grammar.sample(self._sampler.chain, context.logits(row))
        else:
            token = self._sampler.sample(context, row)
        if self._budget:
            self._budget.push(token)
        return token

    def is_looping(self, token: int) -> bool:
        """Take the answer's next token. True when the answer only repeats itself."""
        return self._loops is not None and self._loops.push(token)

    def likely(self, context: Context, row: int, token: int) -> Likely | None:
        """How likely the model found that token, and which it found likeliest; None where nobody asked."""
        if self._n_likely is None:
            return None
        logits = context.logits(row)
        highest = float(logits.max())
        normal = highest + float(np.log(np.exp(logits - highest, dtype=np.float64).sum()))
        n = min(self._n_likely, len(logits))
        best = np.argpartition(logits, -n)[-n:] if n else np.empty(0, np.int64)
        ranked = best[np.argsort(-logits[best], kind="stable")]
        return Likely(
            (self._model.piece(token), float(logits[token]) - normal),
            tuple((self._model.piece(int(each)), float(logits[each]) - normal) for each in ranked),
        )

    def close(self) -> None:
        """Release what is llama.cpp's."""
        if self._grammar:
            self._grammar.close()
        self._sampler.close()


def _check(request: Request, n_vocab: int) -> None:
    """Refuse numbers that mean nothing, or would not come to an end."""
    if request.n_likely is not None and not (_is_integer(request.n_likely) and 0 <= request.n_likely <= _MOST_LIKELY):
        raise UsageError(
            f"The likelihoods of {request.n_likely!r} other tokens are asked for.", f"Ask for 0 to {_MOST_LIKELY}."
        )
    if not all(isinstance(each, str) for each in request.sampling.stop):
        raise UsageError("A stop string is no text.", "Give texts.")
    for token, bias in request.sampling.logit_bias:
        if not _is_integer(token) or not 0 <= token < n_vocab:
            raise UsageError(
                f"There is a bias for {token!r}, which is no token.", f"Name tokens by their ids, 0 to {n_vocab - 1:,}."
            )
        if isinstance(bias, bool) or not isinstance(bias, (int, float)) or not abs(bias) <= _MOST_BIAS:
            raise UsageError(
                f"The bias of the token {token} is {bias!r}.", "Give a finite number, such as -100 to 100."
            )


def _is_integer(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _grammar_text(request: Request) -> str:
    """The grammar that a request asks for, empty for none. An answer that calls need not fulfil the schema."""
    schema, choice, calls = request.schema, request.tool_choice, ""
    if request.tools or choice not in ("auto", "none"):
        calls = grammar_of_tools(request.tools, choice, parallel=request.parallel_tool_calls, schema=schema)
    asked = [request.grammar, calls or (grammar_of(schema) if schema is not None else "")]
    found = [text for text in asked if text]
    if len(found) > 1:
        raise UsageError("A request asks for a grammar, and for a schema or calls too.", "Ask for one of them.")
    return found[0] if found else ""
