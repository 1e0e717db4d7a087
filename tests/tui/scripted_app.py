"""`gguf-vl` as it is, but for the engine, which plays a scene: `python -m tests.tui.scripted_app SCENE [WORDS …]`."""

from __future__ import annotations

import sys
from functools import partial

from gguf_vl import cli
from gguf_vl.engine.fake import Script, Waits, text
from gguf_vl.tui import app
from gguf_vl.types import Text
from tests.tui.talking import playing


def _fail(self: app.GgufVlApp) -> None:
    """What code with a mistake does."""
    raise ZeroDivisionError("a mistake in the app")


SCENES: dict[str, tuple[Script, ...]] = {
    "endless": ([Text("It begins"), Waits()], text("and goes on")),
    "crashing": ([Text("It begins"), Waits()],),
}


def main() -> None:
    """Play it."""
    scene, *words = sys.argv[1:]
    if scene == "crashing":
        app.GgufVlApp.action_change_theme = _fail  # F12
    app.GgufVlApp = partial(app.GgufVlApp, make=playing(*SCENES[scene]))  # type: ignore[assignment, misc]
    sys.argv = ["gguf-vl", *words]
    cli.main()


if __name__ == "__main__":
    main()
