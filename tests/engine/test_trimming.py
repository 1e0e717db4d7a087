"""Whole turns are dropped, the oldest first, and never more than it takes."""

from __future__ import annotations

import pytest

from gguf_vl.engine.trimming import n_droppable, shortest_cut, without_oldest
from gguf_vl.types import Message


def talk(roles: str) -> tuple[Message, ...]:
    """Messages by the first letters of their roles, each saying its place."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return tuple(Message(names[letter], (str(place),)) for place, letter in enumerate(roles))  # type: ignore[arg-type]


def said(messages: tuple[Message, ...]) -> str:
    return "".join(str(message.content[0]) for message in messages)


@pytest.mark.parametrize(
    ("roles", "n_turns", "left"),
    [
        ("suauau", 0, "012345"),
        ("suauau", 1, "0345"),
        ("suauau", 2, "05"),
        ("suauau", 9, "05"),
        ("uatau", 1, "4"),
        ("auau", 1, "03"),
        ("u", 1, "0"),
        ("sa", 1, "01"),
        ("", 1, ""),
    ],
)
def test_the_system_and_the_question_stay(roles: str, n_turns: int, left: str) -> None:
    assert said(without_oldest(talk(roles), n_turns)) == left


@pytest.mark.parametrize("room", range(1, 30))
def test_as_few_turns_are_dropped_as_it_takes(room: int) -> None:
    messages = talk("s" + "ua" * 12 + "u")
    kept = shortest_cut(messages, tuple, lambda found: len(found) <= room)
    candidates = [without_oldest(messages, n) for n in range(n_droppable(messages) + 1)]
    assert kept == next((each for each in candidates if len(each) <= room), candidates[-1])
