"""Answers put together from their events, for clients that want them whole, and streams that are begun in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request as HttpRequest

from gguf_vl.media.boxes import Box, Point
from gguf_vl.server.service import Events, Located
from gguf_vl.types import (
    Call,
    CallArguments,
    CallEnded,
    CallStarted,
    Event,
    Finished,
    Likely,
    Text,
    Thinking,
)

T = TypeVar("T")


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True)
class Answer:
    """One answer as far as it has come. `size` is that of the picture which `boxes` and `points` are in. `end` is there
    when it is whole.
    """

    text: str = ""
    thinking: str = ""
    calls: list[Call] = field(default_factory=list)
    likely: list[Likely] = field(default_factory=list)
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    size: tuple[int, int] | None = None
    end: Finished | None = None

    def take(self, event: Event | Located) -> None:
        """Grow by an event."""
        match event:
            case Text(text):
                self.text += text
            case Thinking(text):
                self.thinking += text
            case CallStarted(_, id, name):
                self.calls.append(Call(id, name, ""))
            case CallArguments(index, text):
                begun = self.calls[index]
                self.calls[index] = Call(begun.id, begun.name, begun.arguments + text)
            case Likely():
                self.likely.append(event)
            case Located(boxes, points, size):
                self.boxes, self.points, self.size = boxes, points, size
            case Finished():
                self.end = event
            case CallEnded():
                pass

    @property
    def finished(self) -> Finished:
        """Its end."""
        assert self.end
        return self.end


async def whole(events: Events, n: int = 1) -> list[Answer]:
    """All answers, when they are."""
    found = [Answer() for _ in range(n)]
    async with aclosing(events):
        async for number, event in events:
            found[number].take(event)
    return found


async def begun(events: Events) -> Events:
    """The same events, once there is a first: what fails before it fails here, with a status of its own."""
    first = await anext(events)

    async def all_of_them() -> Events:
        async with aclosing(events):
            yield first
            async for each in events:
                yield each

    return all_of_them()


async def unless_gone(http: HttpRequest, work: Awaitable[T]) -> T:
    """What comes of the work; it is cancelled when the client goes away, and `ClientLeft` raised."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_has_left(http))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientLeft
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def _has_left(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
