"""The chats that were deleted and can be brought back."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from gguf_vl.chat.turns import Chat
from gguf_vl.tui import when
from gguf_vl.tui.screens.page import Heading, Page
from gguf_vl.tui.widgets.foot import Foot, Hint
from gguf_vl.tui.widgets.rows import Row


class DeletedScreen(Page):
    """Deleted chats, the latest deleted first."""

    CSS_PATH = "../styles/chats.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("u", "restore", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._chats: list[Chat] = []

    def compose(self) -> ComposeResult:
        """The list."""
        yield Heading("Deleted chats")
        yield OptionList(compact=True, markup=False, id="chats-list")
        yield Foot(Hint("Enter u", "bring back", "screen.restore"), Hint("Esc", "all chats", "screen.back"))

    def on_mount(self) -> None:
        """Fill it."""
        self._load()

    @work(exclusive=True)
    async def _load(self) -> None:
        self._chats = await asyncio.to_thread(self.ours.history.chats, deleted=True)
        today, rows, n = date.today(), self.query_one(OptionList), len(self._chats)
        nothing = Option("What you delete is kept here for 30 days.", disabled=True)
        rows.set_options([Option(_row(chat, today)) for chat in self._chats] or [nothing])
        rows.highlighted = 0 if n else None
        self.query_one(Heading).say(f"{n:,} chat{'s' * (n != 1)}, kept for 30 days" if n else "")

    @on(OptionList.OptionSelected)
    def action_restore(self) -> None:
        """Bring the highlighted chat back."""
        at = self.query_one(OptionList).highlighted
        if at is None:
            return
        chat = self._chats[at]
        if self.done(lambda: self.ours.history.restore_chats(chat.id)):
            self.notify(f"Back again: {chat.title}", timeout=3, markup=False)
            self._load()


def _row(chat: Chat, today: date) -> Row:
    deleted = f"deleted {when.short(chat.deleted or 0, today):>6}"
    return Row((chat.title.replace("\n", " "), Content.styled(deleted, "dim")))
