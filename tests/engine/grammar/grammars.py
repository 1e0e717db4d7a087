"""Whether a text fulfils a grammar, as llama.cpp itself reads it."""

from __future__ import annotations

import re
from functools import cache

from gguf_vl import paths
from gguf_vl.native.grammar import Grammar
from gguf_vl.native.model import Model


@cache
def pocket() -> Model:
    """pocket's text model, for its vocabulary: every character can be spelled in it."""
    return Model(paths.pocket_dir() / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None)


def as_said(text: str) -> list[int]:
    """A text's tokens as a model says them: `<think>`, `<tool_call>` and their ends are one each."""
    special = pocket().special_tokens
    pieces = re.split("(" + "|".join(map(re.escape, special)) + ")", text)
    return [token for piece in pieces for token in ([special[piece]] if piece in special else pocket().tokenize(piece))]


def fulfils(grammar_text: str, text: str, behind: str | None = None) -> bool:
    """Whether the grammar takes a text to its end and lets it end there. Before `behind` it may be any text.

    `<think>`, `<tool_call>` and their ends are single tokens in it, as a model says them.
    """
    with Grammar(pocket(), grammar_text, behind=behind) as grammar:
        for token in as_said(text):
            if not grammar.allows(token):
                return False
            grammar.accept(token)
        return grammar.allows(pocket().special_tokens["<|im_end|>"])
