"""Reasoning ends when its tokens are used up, in words that the model takes for its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gguf_vl.engine.budget import ThinkingBudget
from tests.engine.grammar.grammars import pocket

OPEN, CLOSE, WORD = 1, 2, 3


def model(**special: int) -> Any:
    """A vocabulary of the two tags and of characters, which are their code point + 100."""
    return SimpleNamespace(special_tokens=special, tokenize=lambda text: [ord(character) + 100 for character in text])


def answer(n_tokens: int, wished: list[int], *, thinking: bool, **special: int) -> str:
    """What is said where the model wishes for these tokens: `<` and `>` are its tags, `.` any word."""
    special = special or {"<think>": OPEN, "</think>": CLOSE}
    budget = ThinkingBudget(model(**special), n_tokens, thinking=thinking)
    said = ""
    waiting = list(wished)
    while waiting or budget.forced is not None:
        token = budget.forced if budget.forced is not None else waiting.pop(0)
        budget.push(token)
        said += {OPEN: "<", CLOSE: ">", WORD: "."}.get(token) or chr(token - 100)
    return said


ENDING = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
    ">\n\n"
)


@pytest.mark.parametrize(
    ("n_tokens", "wished", "thinking", "said"),
    [
        (3, "......", True, f"...{ENDING}..."),
        (3, "..>....", True, "..>...."),
        (3, "...", True, f"...{ENDING}"),
        (2, "<.....", False, f"<..{ENDING}..."),
        (0, "..", True, f"{ENDING}.."),
        (0, "<..", False, f"<{ENDING}.."),
        (2, ".....", False, "....."),
        (2, ".>....", True, ".>...."),
    ],
)
def test_the_reasoning_ends_when_it_is_spent(n_tokens: int, wished: str, thinking: bool, said: str) -> None:
    tokens = [{"<": OPEN, ">": CLOSE, ".": WORD}[letter] for letter in wished]
    assert answer(n_tokens, tokens, thinking=thinking) == said


def test_a_model_without_these_tokens_is_left_alone() -> None:
    assert answer(0, [WORD, WORD], thinking=True, other=9) == ".."


def test_the_words_are_spelled_in_a_real_vocabulary() -> None:
    budget = ThinkingBudget(pocket(), 0, thinking=True)
    said = b""
    while (token := budget.forced) is not None:
        said += pocket().piece(token)
        budget.push(token)
    assert said.decode() == ENDING.replace(">", "</think>")
