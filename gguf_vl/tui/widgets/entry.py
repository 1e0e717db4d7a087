"""One line to be typed at the foot of a screen: a name, a path, a value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.suggester import SuggestFromList
from textual.widgets import Input, Label, Static
from textual.worker import Worker

from gguf_vl.errors import GgufVlError

Take = Callable[[str], Awaitable[None] | None]
"""Does something with what was typed. It may raise `GgufVlError`: its line is shown, and the person types on."""


class Entry(Vertical):
    """Hidden until something is asked. Enter gives what was typed to `take`; Escape leaves it all as it was."""

    DEFAULT_CSS = """
    Entry {
        dock: bottom; display: none; height: auto; padding: 0 1;
        background: $surface; border-top: solid $border-blurred;
        & #entry-line { height: auto; layout: horizontal; }
        & Label { width: auto; margin-right: 1; text-style: bold; }
        & Input { width: 1fr; }
        & #entry-note { height: auto; color: $text-muted; }
        & #entry-note.-wrong { color: $text-error; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._take: Take | None = None
        self._taking: Worker[None] | None = None
        self._back = ""

    def compose(self) -> ComposeResult:
        """A label with a field, and a line under them."""
        with Vertical(id="entry-line"):
            yield Label(id="entry-label")
            yield Input(compact=True, id="entry-input")
        yield Static(id="entry-note", markup=False)

    @property
    def is_open(self) -> bool:
        """Whether something is being asked."""
        return self._take is not None

    def ask(self, label: str, value: str, take: Take, *, note: str = "", words: tuple[str, ...] = ()) -> None:
        """Ask for a line, with `value` in it to begin with; `words` complete what is typed."""
        self._take = take
        self._back = (self.screen.focused and self.screen.focused.id) or ""
        self.query_one("#entry-label", Label).update(label)
        field = self.query_one(Input)
        field.suggester = SuggestFromList(words, case_sensitive=False) if words else None
        field.value = value
        field.cursor_position = len(value)
        self._say(note)
        self.display = True
        field.focus()

    def action_leave(self) -> None:
        """Ask no more."""
        self._take = None
        self.display = False
        if self._back:
            self.screen.query_one(f"#{self._back}").focus()

    def _say(self, line: str, *, wrong: bool = False) -> None:
        note = self.query_one("#entry-note", Static)
        note.update(line)
        note.set_class(wrong, "-wrong")
        note.display = bool(line)

    @on(Input.Submitted, "#entry-input")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._take and (self._taking is None or self._taking.is_finished):
            self._taking = self._hand_over(self._take, event.value)

    @work
    async def _hand_over(self, take: Take, value: str) -> None:
        """What takes time, as an import does, ends with the app: that waits for what its widgets handle."""
        try:
            under_way = take(value)
            if isawaitable(under_way):
                await under_way
        except GgufVlError as error:
            self._say(f"✗ {error.what} {error.fix}", wrong=True)
        else:
            self.action_leave()
