"""The whole app before a test: with an engine that plays scripts, or with `pocket` itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Turn
from gguf_vl.config import Settings
from gguf_vl.engine.fake import LoadScript, Script, scripted
from gguf_vl.hardware.recorded import machine_from_json
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed, best_first
from gguf_vl.runtime.planning import Planned, plan_elsewhere
from gguf_vl.tui.app import GgufVlApp
from gguf_vl.tui.model import Made, Make, OnProgress, Tell, make_planned
from gguf_vl.tui.widgets.message import TurnView
from gguf_vl.tui.widgets.prompt import Prompt
from gguf_vl.types import Wishes
from tests.tui.waiting import until

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SHAPES = PICTURES / "shapes.png"
"""A blue square, a red circle and a yellow star."""
MACHINES = Path(__file__).parents[1] / "hardware" / "machines"


@dataclass(frozen=True)
class Stage:
    """The app and the one who tries it."""

    app: GgufVlApp
    pilot: Pilot[None]

    async def until(self, holds: Callable[[], object]) -> None:
        """Let the app run until that holds."""
        await until(self.pilot, holds)

    @property
    def prompt(self) -> Prompt:
        """Where questions are written."""
        return self.app.chat.query_one(Prompt)

    @property
    def turns(self) -> list[Turn]:
        """The chat's path, as the history has it."""
        return self.app.history.turns(self.app.chat.chat_id)

    @property
    def views(self) -> list[TurnView]:
        """The turns on the screen."""
        return list(self.app.chat.query(TurnView))

    async def type(self, text: str) -> None:
        """Press a key for each character, all at once: the pilot would wait for rest twice behind each."""
        for char in text:
            key = "ctrl+j" if char == "\n" else char if char.isalnum() else _character_to_key(char)
            self.app.post_message(events.Key(key, char))
        await self.pilot.pause()

    async def ask(self, text: str) -> None:
        """Type a question and send it."""
        await self.type(text)
        await self.pilot.press("enter")

    async def idle(self) -> None:
        """Wait until nothing is answered, and the screen shows what the history has."""
        chat = self.app.chat
        await self.until(lambda: not self.app.answers.is_running(chat.chat_id))
        await self.until(lambda: [view.turn.id for view in self.views] == [turn.id for turn in self.turns])
        await self.until(lambda: all(view.turn.state != "writing" for view in self.views))
        await self.pilot.pause()

    async def answer_to(self, text: str) -> Turn:
        """Ask, and wait for the answer."""
        n_turns = len(self.turns)
        await self.ask(text)
        await self.until(lambda: len(self.turns) > n_turns)
        await self.idle()
        return self.turns[-1]

    async def attach(self, path: Path = SHAPES) -> None:
        """Drop a picture."""
        n_there = len(self.app.history.draft(self.app.chat.chat_id).attachments)
        self.app.chat.bring(path)
        await self.until(lambda: len(self.app.history.draft(self.app.chat.chat_id).attachments) > n_there)

    def text(self) -> str:
        """Everything on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@cache
def pocket_planned(machine: str) -> tuple[Installed, Planned]:
    """`pocket`, planned for a recorded machine by formulas."""
    installed = best_first()[-1]
    there = machine_from_json((MACHINES / f"{machine}.json").read_text(encoding="utf-8"))
    return installed, plan_elsewhere(here(installed), there, Wishes())


def playing(
    *scripts: Script, loading: Sequence[LoadScript] = (), machine: str = "macbook-air-m2-8gb", **more: Any
) -> Make:
    """Makes engines that play these scripts on that machine."""
    connect = scripted(*scripts, loading=loading, **more)

    def make(_settings: Settings, on_progress: OnProgress, tell: Tell) -> Made:
        installed, planned = pocket_planned(machine)
        engine = PlannedEngine(installed, planned, on_progress=on_progress, tell=tell, prove="never", connect=connect)
        return Made(installed, planned, engine)

    return make


@asynccontextmanager
async def talking(
    make: Make = make_planned,
    *,
    size: tuple[int, int] = (100, 36),
    settings: Settings | None = None,
    history: History | None = None,
    **more: Any,
) -> AsyncIterator[Stage]:
    """The app with its chat on the screen. With `make_planned` it is `pocket` that answers."""
    app = GgufVlApp(settings or Settings(), history or History(), make=make, **more)
    async with app.run_test(size=size) as pilot:
        stage = Stage(app, pilot)
        await stage.until(lambda: app.chat.chat_id >= 0)
        yield stage
