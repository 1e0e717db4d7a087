"""An answer that repeats itself is noticed, and one that only looks alike is not."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_vl.engine.loops import LONGEST_PERIOD, MOST_REPEATED, MOST_REPEATS, LoopGuard


def tokens_of(text: str) -> list[int]:
    """About what a model's tokenizer makes of it: words with the space before them, digits and marks singly."""
    names: dict[str, int] = {}
    return [names.setdefault(piece, len(names)) for piece in re.findall(r" ?[a-zA-Z]+|\d| ?[^\w\s]+|\s", text)]


def looping_after(tokens: list[int]) -> int | None:
    """How many tokens had come when the loop was noticed."""
    guard = LoopGuard()
    return next((place for place, token in enumerate(tokens, 1) if guard.push(token)), None)


LEGITIMATE = {
    "laughing": "ha " * 150,
    "numbers": ", ".join(map(str, range(600))),
    "zeros": "[" + "0, " * 150 + "0]",
    "a ruler": "| --- " * 60 + "|",
    "blank cells": ("|   " * 8 + "|\n") * 20,
    "a table": "\n".join(f"| {i} | pen | {i % 7} | 1.50 | EUR |" for i in range(120)),
    "boxes": ",\n".join(f'{{"label": "person", "bbox_2d": [{i * 7}, {i * 3}, {i * 9}, {i * 5}]}}' for i in range(80)),
    "labels": "Fragile! This side up. Do not stack.\n" * 7,
    "a chorus": ("We all live in a yellow submarine, a yellow submarine, a yellow submarine.\n" * 2 + "And so on.\n")
    * 4,
    "code": "\n".join(f"    if x == {i}:\n        return y[{i}]\n" for i in range(60)),
}


@pytest.mark.parametrize("text", LEGITIMATE.values(), ids=LEGITIMATE)
def test_what_repeats_for_a_reason_passes(text: str) -> None:
    assert looping_after(tokens_of(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "The " * 2000,
        "It is red. " * 500,
        "So the answer is 5.\nWait, let me look at the picture again.\n" * 100,
        "| 0.00 | 0.00 | 0.00 |\n" * 200,
        " ".join(f"word{i}" for i in range(70)) * 30,
    ],
    ids=lambda text: text[:20],
)
def test_an_answer_that_only_repeats_itself_is_noticed(text: str) -> None:
    assert looping_after(tokens_of("First something else. " + text)) is not None


@settings(deadline=None)
@given(st.integers(1, LONGEST_PERIOD), st.integers(0, 500), st.randoms(use_true_random=False))
def test_it_is_noticed_as_soon_as_it_is_more_than_allowed(period: int, before: int, chance: random.Random) -> None:
    passage = chance.sample(range(10_000), period)
    tokens = chance.choices(range(10_000, 20_000), k=before) + passage * 2000
    allowed = max(MOST_REPEATED, period * MOST_REPEATS)
    assert looping_after(tokens) == before + period + allowed + 1


def test_a_passage_that_is_too_long_or_interrupted_is_not() -> None:
    assert looping_after(list(range(LONGEST_PERIOD + 1)) * 20) is None
    assert looping_after(([1, 2, 3] * 150 + [4]) * 20) is None
