"""Which pages of a document are meant."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

MOST = 20
"""Pages at once: each is a picture of up to a thousand tokens and more."""


class PagesScreen(ModalScreen[list[int] | None]):
    """Asks for pages as printers do: 1-3, 5. Gives their numbers from 1, None where nothing is wanted after all."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]
    DEFAULT_CSS = """
    PagesScreen { align: center middle; }
    PagesScreen Vertical { width: 60; max-width: 100%; height: auto; padding: 1 2; border: round $primary; }
    PagesScreen Vertical { background: $surface; }
    PagesScreen .problem { color: $text-error; height: auto; }
    """

    def __init__(self, name: str, n_pages: int) -> None:
        super().__init__()
        self._document = name
        self._n_pages = n_pages

    def compose(self) -> ComposeResult:
        """The question, where to answer it, and what is wrong with the answer."""
        with Vertical():
            yield Label(f"{self._document} has {self._n_pages:,} pages. Which? (1-3, 5)", markup=False)
            yield Input("1", select_on_focus=True)
            yield Label(classes="problem", markup=False)
            yield Label("Enter attaches them · Esc cancels")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the pages, or say why these are none."""
        try:
            self.dismiss(pages(event.value, self._n_pages))
        except ValueError as error:
            self.query_one(".problem", Label).update(str(error))

    def action_leave(self) -> None:
        """None after all."""
        self.dismiss(None)


def pages(text: str, n_pages: int) -> list[int]:
    """The numbers in `1-3, 5`, each once, in that order. Raises ValueError, which says what is wrong."""
    found: list[int] = []
    for part in filter(None, re.split(r"[\s,;]+", re.sub(r"\s*[-–]\s*", "-", text.strip()))):
        if not (span := re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)):
            raise ValueError(f"{part!r} is no page. Write 1-3, 5.")
        first, last = int(span[1]), int(span[2] or span[1])
        if not 1 <= first <= last <= n_pages:
            raise ValueError(f"There are the pages 1 to {n_pages:,}.")
        if len(found) + last - first >= MOST:
            raise ValueError(f"At most {MOST} pages at once.")
        found += [number for number in range(first, last + 1) if number not in found]
    if not found:
        raise ValueError("Write the numbers of pages: 1-3, 5.")
    return found
