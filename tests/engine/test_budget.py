"""Reasoning ends when its tokens are used up, in words that the model takes for its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gguf_vl.engine.budget import ThinkingBudget
from gguf_vl.native.grammar import Grammar
from tests.engine.grammar.grammars import as_said, pocket

OPEN, CLOSE, WORD = 1, 2, 3
HALVES = [4, 5]
"""A character in two tokens."""


def model(**special: int) -> Any:
    """A vocabulary of the two tags and of characters, which are their code point + 100."""
    halves = dict(zip(HALVES, (b"\xf0\x9f", b"\xa6\x84"), strict=True))
    return SimpleNamespace(
        special_tokens=special,
        tokenize=lambda text: [ord(character) + 100 for character in text],
        piece=lambda token: halves.get(token, b"."),
    )


def answer(n_tokens: int, wished: list[int], *, thinking: bool, **special: int) -> str:
    """What is said where the model wishes for these tokens: `<` and `>` are its tags, `.` any word."""
    special = special or {"<think>": OPEN, "</think>": CLOSE}
    budget = ThinkingBudget(model(**special), n_tokens, thinking=thinking)
    said = ""
    waiting = list(wished)
    while waiting or budget.forced is not None:
        token = budget.forced if budget.forced is not None else waiting.pop(0)
        budget.push(token)
        said += {OPEN: "<", CLOSE: ">", WORD: ".", HALVES[0]: "(", HALVES[1]: ")"}.get(token) or chr(token - 100)
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


def test_a_character_that_is_begun_is_ended_first() -> None:
    assert answer(2, [WORD, *HALVES, WORD], thinking=True) == f".(){ENDING}."
    assert answer(3, [WORD, *HALVES, WORD], thinking=True) == f".(){ENDING}."


def test_bytes_that_never_become_a_character_end_too() -> None:
    assert answer(1, HALVES[:1] * 20, thinking=True).startswith("(" * 5 + ENDING)


THOUGHTS = as_said("Hm 🦄, é 🦄.")


@pytest.mark.parametrize("n_tokens", range(len(THOUGHTS)))
def test_wherever_it_ends_there_are_whole_characters_and_a_grammar_takes_it(n_tokens: int) -> None:
    budget = ThinkingBudget(pocket(), n_tokens, thinking=True)
    wished = iter(THOUGHTS)
    said = b""
    with Grammar(pocket(), 'root ::= "red"', thinking=True) as grammar:
        while not said.endswith(b"</think>\n\n"):
            token = next(wished) if budget.forced is None else budget.forced
            grammar.accept(token)
            budget.push(token)
            said += pocket().piece(token)
        assert grammar.allows(pocket().tokenize("red")[0])
    assert "Hm 🦄, é 🦄.".startswith(said.decode().removesuffix(ENDING.replace(">", "</think>")))


def test_a_model_without_these_tokens_is_left_alone() -> None:
    assert answer(0, [WORD, WORD], thinking=True, other=9) == ".."


def test_the_words_are_spelled_in_a_real_vocabulary() -> None:
    budget = ThinkingBudget(pocket(), 0, thinking=True)
    said = b""
    while (token := budget.forced) is not None:
        said += pocket().piece(token)
        budget.push(token)
    assert said.decode() == ENDING.replace(">", "</think>")
