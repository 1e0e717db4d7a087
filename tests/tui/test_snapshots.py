"""Every screen as a picture: three sizes, light and dark.

After a change of looks: scripts/test -n 0 tests/tui/test_snapshots.py --snapshot-update, and look at what has changed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from gguf_vl.chat.history import History
from gguf_vl.config import Settings
from gguf_vl.engine.fake import Script, Waits
from gguf_vl.tui.app import GgufVlApp
from gguf_vl.tui.screens.page import Heading
from gguf_vl.tui.widgets.prompt import Prompt
from gguf_vl.types import Finished, Text, Thinking, Timings, Usage
from tests.tui.talking import SHAPES, Stage, playing

NOON = 1_790_000_000.0
SIZES = ((60, 20), (80, 24), (160, 50))
THEMES = ("textual-dark", "textual-light")
DONE = Finished("stop", Usage(120, 108, 31), Timings(0.4, 0.2, 0.9, 23.8, tokens_reused=108))
ANSWER = """\
There are **three** shapes:

| shape | colour |
|---|---|
| square | blue |
| star | 黄色 |

```python
print("three")
```
"""
LOCATED = '[{"bbox_2d": [610, 50, 870, 380], "label": "star"}]'

Play = Callable[[Stage], Awaitable[None]]


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the history, and the zone that hours are shown in."""
    monkeypatch.setattr(time, "time", lambda: NOON)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


async def start(stage: Stage) -> None:
    """What a new person sees, with the offer of a larger model."""


async def chip(stage: Stage) -> None:
    """A picture that is encoded, and a question half written."""
    await stage.attach()
    await stage.until(lambda: "encoded" in stage.text())
    await stage.type("What is th")


async def answered(stage: Stage) -> None:
    """Thoughts folded, a table with wide characters, code."""
    await stage.attach()
    await stage.answer_to("What is there? 图里有什么？")


async def boxes(stage: Stage) -> None:
    """A box on the picture."""
    await stage.attach()
    await stage.answer_to("Locate the star.")
    await stage.until(lambda: "star" in stage.text())


async def branches(stage: Stage) -> None:
    """The second answer to one question, chosen."""
    await stage.answer_to("Again?")
    await stage.pilot.press("up", "r")
    await stage.until(lambda: stage.turns[-1].of == 2)
    await stage.idle()
    await stage.pilot.press("up")


async def stopped(stage: Stage) -> None:
    """An answer that was stopped, and how to go on."""
    await stage.ask("Tell me everything")
    await stage.until(lambda: len(stage.turns) == 2 and "long" in stage.turns[1].text)
    await stage.pilot.press("escape")
    await stage.idle()


async def commands(stage: Stage) -> None:
    """What a slash offers."""
    await stage.type("/s")


async def picker(stage: Stage) -> None:
    """Pictures to choose from, one marked, with a preview."""
    await stage.pilot.press("ctrl+g")
    await stage.until(lambda: "shapes.png" in stage.text())
    await stage.type("shapes")
    await stage.pilot.press("space")
    await stage.until(lambda: "384×288" in stage.text())


async def models(stage: Stage) -> None:
    """What is here and what could be."""
    await stage.pilot.press("ctrl+l")
    await stage.until(lambda: "suits best" in stage.text())
    table = stage.app.screen.query_one(DataTable)
    await stage.until(lambda: not any(str(cell) == "…" for row in table.rows for cell in table.get_row(row)))
    await stage.until(lambda: "Looking whether" not in stage.text())


async def machine(stage: Stage) -> None:
    """Devices, and the plan against use."""
    await stage.pilot.press("f8")
    await stage.until(lambda: "Apple M2" in stage.text())


async def keys(stage: Stage) -> None:
    """Every key."""
    await stage.pilot.press("f1")
    await stage.until(lambda: "Keys and commands" in stage.text())


async def chats(stage: Stage) -> None:
    """All chats."""
    await stage.answer_to("What is in the picture?")
    await stage.pilot.press("ctrl+o")
    await stage.until(lambda: "2 turns" in stage.text())


async def deleted(stage: Stage) -> None:
    """A chat that can be brought back."""
    await stage.answer_to("What is in the picture?")
    await stage.pilot.press("ctrl+o")
    await stage.until(lambda: "2 turns" in stage.text())
    await stage.pilot.press("d")
    await stage.until(lambda: "2 turns" not in stage.text())
    await stage.pilot.press("D")
    await stage.until(lambda: "kept for 30 days" in stage.text())
    await stage.until(lambda: "What is in the picture?" in stage.text())
    stage.app.clear_notifications()


async def search(stage: Stage) -> None:
    """What was said, found."""
    await stage.answer_to("What is in the picture?")
    await stage.pilot.press("ctrl+s")
    await stage.until(lambda: stage.app.screen is not stage.app.chat)
    await stage.type("square")
    await stage.until(lambda: "blue square" in stage.text())


async def parameters(stage: Stage) -> None:
    """The system prompt and the sampling of the chat."""
    await stage.pilot.press("ctrl+t")
    await stage.until(lambda: "temperature" in stage.text())


async def settings(stage: Stage) -> None:
    """The settings; the folder of this test is not part of the picture."""
    await stage.pilot.press("f9")
    await stage.until(lambda: "image_max_tokens" in stage.text())
    stage.app.screen.query_one(Heading).say("config.toml")


SCREENS: dict[str, tuple[Play, Script]] = {
    "start": (start, [DONE]),
    "chip": (chip, [DONE]),
    "answered": (answered, [Thinking("Let me count them."), Text(ANSWER), DONE]),
    "boxes": (boxes, [Text(LOCATED), DONE]),
    "branches": (branches, [Text("Once more."), DONE]),
    "stopped": (stopped, [Text("It is a long "), Waits(), DONE]),
    "commands": (commands, [DONE]),
    "picker": (picker, [DONE]),
    "models": (models, [DONE]),
    "machine": (machine, [DONE]),
    "keys": (keys, [DONE]),
    "chats": (chats, [Text("A blue square."), DONE]),
    "deleted": (deleted, [Text("A blue square."), DONE]),
    "search": (search, [Text("A blue square."), DONE]),
    "parameters": (parameters, [DONE]),
    "settings": (settings, [DONE]),
}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", SCREENS)
def test_screen(
    snap_compare: Any,
    monkeypatch: pytest.MonkeyPatch,
    person: Path,
    screen: str,
    size: tuple[int, int],
    theme: str,
) -> None:
    pictures = person / "Pictures"
    (pictures / "Holidays").mkdir(parents=True)
    for name in ("shapes.png", "shapes 2.png", "图.png"):
        shutil.copy(SHAPES, pictures / name)
        os.utime(pictures / name, (NOON, NOON))
    monkeypatch.chdir(pictures)
    play, script = SCREENS[screen]
    app = GgufVlApp(Settings(theme=theme), History(), make=playing(script))

    async def before(pilot: Pilot[None]) -> None:
        stage = Stage(app, pilot)
        await stage.until(lambda: app.model.state == "ready" and app.chat.recommended)
        await play(stage)
        app.chat.query_one(Prompt).cursor_blink = False
        for each in app.screen.query(Input):
            each.cursor_blink = False
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)
