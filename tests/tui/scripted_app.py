"""`gguf-vl` as it is, but for the engine, which plays a scene: `python -m tests.tui.scripted_app SCENE [WORDS …]`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

from gguf_vl import cli
from gguf_vl.engine.client import Engine
from gguf_vl.engine.fake import Script, Waits, text
from gguf_vl.tui import app
from gguf_vl.types import Event, Request, Text
from tests.tui.talking import playing

HANDED_OVER = "HANDED_OVER"
"""The variable that names a file which gets a byte for each piece of an answer."""


def _fail(self: app.GgufVlApp) -> None:
    """What code with a mistake does."""
    raise ZeroDivisionError("a mistake in the app")


@dataclass(frozen=True)
class Breath(Waits):
    """A moment in which everything else goes on."""

    async def until_released(self) -> None:
        """It is over at once, and yet not before the loop has been round."""
        await asyncio.sleep(0.001)


def counting() -> Script:
    """0, 1, 2 … without an end that anybody waits for."""
    return [step for n in range(20_000) for step in (Text(f"{n} "), Breath())]


def _counting_what_is_handed_over(path: str) -> None:
    """Have a byte written to this file before each piece of an answer is given to the app."""
    generate = Engine.generate
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    async def told(self: Engine, request: Request) -> AsyncGenerator[Event, None]:
        async for event in generate(self, request):
            if isinstance(event, Text):
                os.write(file, b".")
            yield event

    Engine.generate = told  # type: ignore[method-assign]


SCENES: dict[str, tuple[Script, ...]] = {
    "endless": ([Text("It begins"), Waits()], text("and goes on")),
    "counting": (counting(),),
    "crashing": ([Text("It begins"), Waits()],),
}


def main() -> None:
    """Play it."""
    scene, *words = sys.argv[1:]
    if scene == "crashing":
        app.GgufVlApp.action_change_theme = _fail  # F12
    if HANDED_OVER in os.environ:
        _counting_what_is_handed_over(os.environ[HANDED_OVER])
    app.GgufVlApp = partial(app.GgufVlApp, make=playing(*SCENES[scene]))  # type: ignore[assignment, misc]
    sys.argv = ["gguf-vl", *words]
    cli.main()


if __name__ == "__main__":
    main()
