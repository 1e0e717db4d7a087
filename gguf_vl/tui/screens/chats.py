"""All chats: to open, to search by what was said in them, to name, pin, delete, export and import."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from gguf_vl.chat.turns import Chat, Hit
from gguf_vl.tui import when
from gguf_vl.tui.screens.page import Heading, Page
from gguf_vl.tui.widgets.entry import Entry
from gguf_vl.tui.widgets.foot import Foot, Hint
from gguf_vl.tui.widgets.rows import Row, marked

_OF_LIST = (
    Hint("Enter", "open", "screen.open"),
    Hint("/", "search", "screen.search"),
    Hint("r", "rename", "screen.rename"),
    Hint("p", "pin", "screen.pin"),
    Hint("d", "delete", "screen.delete"),
    Hint("u", "undo", "screen.undo"),
    Hint("D", "deleted", "screen.deleted"),
    Hint("x", "export", "screen.export"),
    Hint("i", "import", "screen.import"),
    Hint("n", "new", "screen.new"),
    Hint("Esc", "back", "screen.back"),
)
_OF_SEARCH = (
    Hint("Enter", "open"),
    Hint("↑ ↓", "choose"),
    Hint("Tab", "to the list"),
    Hint("Esc", "all chats, then back", "screen.back"),
)
_WHO = {"user": "you", "assistant": "answer", None: "title"}


class ChatsScreen(Page):
    """All chats, the pinned ones first. With `searching` the search is ready to be typed into, or holds `words`."""

    CSS_PATH = "../styles/chats.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", show=False),
        Binding("r,f2", "rename", show=False),
        Binding("p", "pin", show=False),
        Binding("d,delete", "delete", show=False),
        Binding("u", "undo", show=False),
        Binding("D", "deleted", show=False),
        Binding("x", "export", show=False),
        Binding("i", "import", show=False),
        Binding("n", "new", show=False),
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
    ]

    def __init__(self, searching: bool = False, words: str = "") -> None:
        super().__init__()
        self._searching = searching
        self._words = words
        self._today = date.today()
        self._chats: dict[int, Chat] = {}
        self._hits: dict[str, Hit] = {}
        self._deleted: dict[int, Chat] = {}
        """They stay in the list until the screen is left; the latest deleted last."""

    def compose(self) -> ComposeResult:
        """The search over the list."""
        yield Heading("Chats")
        yield Input(self._words, placeholder="Search everything that was said", compact=True, id="chats-search")
        yield OptionList(compact=True, markup=False, id="chats-list")
        yield Foot(*_OF_LIST)
        yield Entry()

    def on_mount(self) -> None:
        """Fill it."""
        self.query_one(Input if self._searching else OptionList).focus()
        self._load()

    # --- what is shown

    @on(Input.Changed, "#chats-search")
    def _typed(self) -> None:
        self._load()

    @work(exclusive=True, group="chats")
    async def _load(self, keep: int | None = None) -> None:
        """All chats, or what was searched for; what was asked last is what is shown. The highlight stays on chat
        `keep`.
        """
        query = self.query_one("#chats-search", Input).value.strip()
        history = self.ours.history
        if query:
            hits = await asyncio.to_thread(history.search, query)
            self._show_hits(hits)
        else:
            chats = await asyncio.to_thread(history.chats)
            self._show_chats(chats, keep)

    def _show_chats(self, chats: list[Chat], keep: int | None) -> None:
        self._today = date.today()
        chats = sorted([*chats, *self._deleted.values()], key=lambda chat: (chat.pinned, chat.updated), reverse=True)
        self._chats = {chat.id: chat for chat in chats}
        self._hits = {}
        options: list[Option] = []
        last = ""
        for chat in chats:
            heading = "Pinned" if chat.pinned else when.group(chat.updated, self._today)
            if heading != last:
                options += [Option("", disabled=True)] if options else []
                options.append(Option(heading, disabled=True))
                last = heading
            options.append(Option(self._row(chat), id=str(chat.id)))
        if not options:
            options = [Option("Nothing yet. What you ask is kept here.", disabled=True)]
        rows = self._fill(options)
        here = str(keep or self.ours.chat.chat_id)
        rows.highlighted = next((at for at, each in enumerate(options) if each.id == here), 1 if chats else None)
        n_kept = len(chats) - len(self._deleted)
        self.query_one(Heading).say(f"{n_kept:,} chat{'s' * (n_kept != 1)}")

    def _show_hits(self, hits: list[Hit]) -> None:
        self._today = date.today()
        self._chats = {hit.chat.id: hit.chat for hit in hits}
        self._hits = {f"hit-{number}": hit for number, hit in enumerate(hits)}
        options = [Option(self._found(hit), id=name) for name, hit in self._hits.items()]
        rows = self._fill(options or [Option("Nothing of that was said.", disabled=True)])
        rows.highlighted = 0 if hits else None
        self.query_one(Heading).say(f"{len(hits)} found" if hits else "nothing found")

    def _fill(self, options: list[Option]) -> OptionList:
        rows = self.query_one(OptionList)
        rows.set_options(options)
        rows.scroll_home(animate=False)
        return rows

    def _row(self, chat: Chat) -> Row:
        deleted = chat.id in self._deleted
        title = Content(chat.title.replace("\n", " "))
        turns = f"{chat.n_turns} turn{'s' * (chat.n_turns != 1)}" if chat.n_turns else "draft"
        if deleted:
            title, turns = title.stylize("strike dim"), "deleted"
        is_open = chat.id == self.ours.chat.chat_id
        at = when.short(chat.updated, self._today)
        return Row((Content.assemble("→ " if is_open else "  ", title), Content.styled(f"{turns:>9}  {at:>6}", "dim")))

    def _found(self, hit: Hit) -> Row:
        snippet = marked(hit.snippet, hit.marks)
        at = when.short(hit.chat.updated, self._today)
        who = _WHO[hit.role]
        title = snippet if hit.turn_id is None else Content(hit.chat.title.replace("\n", " "))
        if hit.chat.id in self._deleted:
            title, who = title.stylize("strike dim"), "deleted"
        about = Content.styled(f"{who:>7}  {at:>6}", "dim")
        lines: list[tuple[Content, Content]] = [(title, about)]
        if hit.turn_id is not None:
            lines.append((Content.assemble("    ", snippet), Content("")))
        return Row(*lines)

    def _draw_again(self, chat_id: int) -> None:
        """The rows of one chat."""
        rows = self.query_one(OptionList)
        for name, hit in self._hits.items():
            if hit.chat.id == chat_id:
                rows.replace_option_prompt(name, self._found(hit))
        if not self._hits:
            rows.replace_option_prompt(str(chat_id), self._row(self._chats[chat_id]))

    # --- the one that is highlighted

    @property
    def _row_id(self) -> str:
        option = self.query_one(OptionList).highlighted_option
        return (option and option.id) or ""

    @property
    def _chat(self) -> Chat | None:
        if hit := self._hits.get(self._row_id):
            return hit.chat
        return self._chats[int(self._row_id)] if self._row_id else None

    def _living(self) -> Chat | None:
        """The chat to do something with, unless it is deleted."""
        chat = self._chat
        if chat and chat.id in self._deleted:
            self.notify("It is deleted: u brings it back first.", severity="warning")
            return None
        return chat

    # --- keys

    def action_back(self) -> None:
        """Clear the search; without one, show the chat again."""
        search = self.query_one("#chats-search", Input)
        if search.value:
            search.value = ""
        else:
            self.dismiss()

    def action_search(self) -> None:
        """Type what is searched for."""
        self.query_one("#chats-search", Input).focus()

    def action_move(self, by: int) -> None:
        """Move the highlight while the search is typed."""
        rows = self.query_one(OptionList)
        if by > 0:
            rows.action_cursor_down()
        else:
            rows.action_cursor_up()

    @on(Input.Submitted, "#chats-search")
    @on(OptionList.OptionSelected)
    def action_open(self) -> None:
        """Show the chat, at the turn that was found."""
        if chat := self._living():
            hit = self._hits.get(self._row_id)
            self.ours.open_chat(chat.id, hit.turn_id if hit else None)

    def action_new(self) -> None:
        """Begin another chat."""
        self.ours.open_chat(self.ours.history.new_chat().id)

    def action_rename(self) -> None:
        """Give the chat a title; none gives the one made of its first question back."""
        chat = self._living()
        if chat is None:
            return

        def take(title: str) -> None:
            self.ours.history.rename(chat.id, title.strip())
            self._load(chat.id)

        note = "Empty: its first question is its title. Enter keeps it, Esc leaves it."
        self.query_one(Entry).ask("Title", chat.title, take, note=note)

    def action_pin(self) -> None:
        """Keep it at the top, or no more."""
        chat = self._living()
        if chat and self.done(lambda: self.ours.history.pin(chat.id, not chat.pinned)):
            self.notify(f"{'No longer pinned' if chat.pinned else 'Pinned'}: {chat.title}", timeout=3, markup=False)
            self._load(chat.id)

    def action_delete(self) -> None:
        """Delete it; it can be had back."""
        chat = self._living()
        if chat and self.done(lambda: self.ours.history.delete_chat(chat.id)):
            self.ours.leave_chat(chat.id)
            self._deleted[chat.id] = chat
            self._draw_again(chat.id)
            self.notify(f"Deleted: {chat.title}\nu brings it back; D has it for 30 days.", markup=False)

    def action_undo(self) -> None:
        """Bring the highlighted chat back if it is deleted, else the last that was."""
        chat = self._chat
        if chat is None or chat.id not in self._deleted:
            chat = next(reversed(self._deleted.values()), None)
        if chat is None:
            self.notify("Nothing was deleted here.", timeout=3)
        elif self.done(lambda: self.ours.history.restore_chats(chat.id)):
            del self._deleted[chat.id]
            self._load(chat.id)
            self.notify(f"Back again: {chat.title}", timeout=3, markup=False)

    def action_deleted(self) -> None:
        """Show what was deleted, now or some time ago, to bring it back."""
        from gguf_vl.tui.screens.deleted import DeletedScreen

        def load(_: None) -> None:
            self._load()

        self._deleted.clear()
        self.app.push_screen(DeletedScreen(), load)

    def action_export(self) -> None:
        """Write it to files."""
        from gguf_vl.tui.screens.exporting import ExportScreen

        if chat := self._living():
            self.app.push_screen(ExportScreen(chat), self._exported)

    def _exported(self, path: Path | None) -> None:
        if path:
            self.notify(f"Written: {path}", timeout=8, markup=False)

    def action_import(self) -> None:
        """Read chats from a file that was exported as JSON."""

        async def take(text: str) -> None:
            from gguf_vl.tui.screens.exporting import read_chats

            chats = await asyncio.to_thread(read_chats, self.ours.history, text)
            self.notify(f"{len(chats)} chat{'s' * (len(chats) != 1)} imported.", timeout=5)
            self._load(chats[0].id if chats else None)

        self.query_one(Entry).ask(
            "Import", "", take, note="The path of a JSON file that was exported here. Esc leaves it."
        )

    def on_descendant_focus(self) -> None:
        """The foot shows the keys that hold now."""
        in_search = isinstance(self.focused, Input) and self.focused.id == "chats-search"
        self.query_one(Foot).show(*(_OF_SEARCH if in_search else _OF_LIST))
