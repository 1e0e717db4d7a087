"""One of a few words, all of them shown."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.style import Style
from textual.widgets import Static


class Choice(Static, can_focus=True):
    """The chosen word stands in brackets. ← → and clicks choose another one."""

    DEFAULT_CSS = """
    Choice { height: 1; width: auto; link-style: none; link-color: $foreground; }
    Choice:focus { background: $primary 30%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", show=False),
        Binding("right,space", "step(1)", show=False),
    ]
    chosen: reactive[str] = reactive("", init=False)

    class Chosen(Message):
        """The person chose another word."""

        def __init__(self, choice: Choice, word: str) -> None:
            super().__init__()
            self.choice = choice
            self.word = word

    def __init__(self, words: tuple[str, ...], chosen: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = words
        self.set_reactive(Choice.chosen, chosen)
        self._draw()

    def _draw(self) -> None:
        pieces = []
        for number, word in enumerate(self._words):
            piece = Content.styled(f"[{word}]", "bold") if word == self.chosen else Content(f" {word} ")
            pieces.append(piece.stylize(Style.from_meta({"@click": f"choose({number})"})))
        self.update(Content(" ").join(pieces))

    def watch_chosen(self) -> None:
        """Draw it anew."""
        self._draw()

    def action_choose(self, number: int) -> None:
        """Take that word."""
        if self._words[number] != self.chosen:
            self.chosen = self._words[number]
            self.post_message(self.Chosen(self, self.chosen))

    def action_step(self, by: int) -> None:
        """Take the next word, or the one before."""
        self.action_choose((self._words.index(self.chosen) + by) % len(self._words))
