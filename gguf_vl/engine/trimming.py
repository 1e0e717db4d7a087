"""A conversation that is too long for the context, without its oldest turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from gguf_vl.types import Message

T = TypeVar("T")


def without_oldest(messages: Sequence[Message], n_turns: int) -> tuple[Message, ...]:
    """The messages without their `n_turns` oldest turns. A turn is a user's message and what follows it up to the next.

    What stands before the first turn stays: it is the system's. So does the last turn, the question.
    """
    starts = [place for place, message in enumerate(messages) if message.role == "user"]
    if not starts:
        return tuple(messages)
    kept = starts[min(n_turns, len(starts) - 1)]
    return (*messages[: starts[0]], *messages[kept:])


def n_droppable(messages: Sequence[Message]) -> int:
    """Turns that may be dropped."""
    return max(0, sum(message.role == "user" for message in messages) - 1)


def shortest_cut(messages: Sequence[Message], build: Callable[[Sequence[Message]], T], fits: Callable[[T], bool]) -> T:
    """What `build` makes of the messages with as few of the oldest turns dropped as it takes to fit.

    With all dropped that may be, where even that does not fit.
    """
    low, high = 0, n_droppable(messages)
    found = build(messages)
    if fits(found):
        return found
    found = build(without_oldest(messages, high))
    while high - low > 1:
        middle = (low + high) // 2
        tried = build(without_oldest(messages, middle))
        if fits(tried):
            high, found = middle, tried
        else:
            low = middle
    return found
