"""The screens over the chat, each alone: an app with what they use of the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TypeVar

from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import OptionList
from textual.worker import WorkerCancelled

from gguf_vl.chat.history import History
from gguf_vl.chat.turns import Chat
from gguf_vl.config import load_settings, set_setting
from gguf_vl.runtime.models import Installed

T = TypeVar("T", bound=Screen[None])
SIZES = ((80, 24), (60, 20), (160, 50))


class PagesApp(App[None]):
    """It remembers which chat was opened, at which turn, and which was left."""

    def __init__(self, history: History, installed: Installed | None = None, current: int = -1) -> None:
        super().__init__()
        self.history = history
        self.settings = load_settings({})
        self.model = SimpleNamespace(made=SimpleNamespace(installed=installed) if installed else None)
        self.chat = SimpleNamespace(chat_id=current)
        self.left: list[int] = []
        self.opened: list[tuple[int, int | None]] = []

    def open_chat(self, chat_id: int, turn_id: int | None = None) -> None:
        self.opened.append((chat_id, turn_id))
        self.chat.chat_id = chat_id
        self.pop_screen()

    def leave_chat(self, chat_id: int) -> None:
        self.left.append(chat_id)

    def change_setting(self, name: str, text: str) -> None:
        set_setting(name, text)
        written = load_settings({}, environment={})
        self.settings = replace(self.settings, **{name: getattr(written, name)})


@asynccontextmanager
async def shown(
    make: Callable[[], T],
    history: History | None = None,
    *,
    installed: Installed | None = None,
    current: int = -1,
    size: tuple[int, int] = (80, 24),
) -> AsyncIterator[tuple[PagesApp, T, Pilot[None]]]:
    """That screen over an empty one."""
    with history or History() as opened:
        app = PagesApp(opened, installed, current)
        async with app.run_test(size=size) as pilot:
            page = make()
            await app.push_screen(page)
            await settled(pilot)
            yield app, page, pilot


async def settled(pilot: Pilot[None]) -> None:
    """Lets the workers end; those that later ones took over from are cancelled, as they should be."""
    with suppress(WorkerCancelled):
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def typed(pilot: Pilot[None], text: str) -> None:
    """Presses a key for each character, and lets what follows from it happen."""
    names = {" ": "space", "/": "slash", ".": "full_stop", "_": "underscore", "-": "minus", "=": "equals_sign"}
    await pilot.press(*(names.get(char, char) for char in text))
    await settled(pilot)


async def pressed(pilot: Pilot[None], *keys: str) -> None:
    """Presses keys, and lets what follows from them happen."""
    await pilot.press(*keys)
    await settled(pilot)


def rows(page: Screen[None]) -> list[str]:
    """The rows of the list that can be chosen."""
    options = page.query_one(OptionList).options
    return [str(option.prompt) for option in options if not option.disabled]


def text_of(app: App[None]) -> str:
    """Everything on the screen, with spaces as they are."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def said(app: App[None]) -> list[str]:
    """What the app told, the latest last."""
    return [notification.message for notification in app._notifications]


def a_chat(history: History, *texts: str) -> Chat:
    """A chat in which question and answer take turns."""
    chat = history.new_chat()
    parent: int | None = None
    for number, text in enumerate(texts):
        if number % 2 == 0:
            parent = history.question(chat.id, parent, text).id
        else:
            assert parent is not None
            answer = history.begin_answer(parent, "pocket")
            history.append(answer.id, text)
            history.finish(answer.id, "done")
            parent = answer.id
    return history.chat(chat.id)
