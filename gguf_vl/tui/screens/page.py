"""What the screens over the chat have in common: a heading, the keys at the foot, and Escape back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from gguf_vl.errors import GgufVlError
from gguf_vl.tui.widgets.rows import Row

if TYPE_CHECKING:
    from gguf_vl.tui.app import GgufVlApp


class Heading(Static):
    """The first line of a page: its name, and a word about what is on it."""

    DEFAULT_CSS = "Heading { dock: top; height: 1; padding: 0 1; background: $panel; }"

    def __init__(self, title: str) -> None:
        super().__init__(markup=False)
        self._title = title
        self.say("")

    def say(self, about: str) -> None:
        """Show that at the right."""
        self.update(Row((Content.styled(self._title, "bold"), about)))


class Page(Screen[None]):
    """A screen that covers the chat until Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back", show=False)]

    @property
    def ours(self) -> GgufVlApp:
        """The app, with what belongs to all screens."""
        return cast("GgufVlApp", self.app)

    def action_back(self) -> None:
        """Show what was there before."""
        self.dismiss()

    def done(self, change: Callable[[], object]) -> bool:
        """Do it; where it cannot be done, say why and return False."""
        try:
            change()
        except GgufVlError as error:
            self.notify(f"{error.what} {error.fix}", severity="error", markup=False)
            return False
        return True
