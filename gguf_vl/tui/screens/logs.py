"""What was logged, the newest last."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, RichLog, Static

from gguf_vl.tui import log
from gguf_vl.tui.log import Line
from gguf_vl.tui.screens.page import Heading, Page
from gguf_vl.tui.widgets.foot import Foot, Hint

_LEVELS = {"e": logging.ERROR, "w": logging.WARNING, "i": logging.INFO, "d": logging.DEBUG}
_LETTERS = {level: letter.upper() for letter, level in _LEVELS.items()}
_KEYS = (
    Hint("e", "errors", "screen.level('e')"),
    Hint("w", "warnings", "screen.level('w')"),
    Hint("i", "info", "screen.level('i')"),
    Hint("d", "everything", "screen.level('d')"),
    Hint("/", "filter", "screen.filter"),
    Hint("f", "follow", "screen.follow"),
    Hint("c", "copy all", "screen.copy"),
    Hint("Esc", "back", "screen.back"),
)


class LogsScreen(Page):
    """The records in memory, from a level on, with a word in them. It follows what comes until one scrolls up."""

    CSS_PATH = "../styles/logs.tcss"
    AUTO_FOCUS = "#log-lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(letter, f"level('{letter}')", show=False) for letter in _LEVELS),
        Binding("slash", "filter", show=False),
        Binding("f", "follow", show=False),
        Binding("c", "copy", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._kept = log.keep()
        self._level = logging.INFO
        self._seen = 0
        """Records that are written on the screen, or were left out."""

    def compose(self) -> ComposeResult:
        """The filter over the lines."""
        yield Heading("Log")
        yield Input(placeholder="Only lines with these words", compact=True, id="log-filter")
        yield RichLog(id="log-lines", wrap=True, min_width=20, auto_scroll=False)
        yield Static(id="log-path", markup=False)
        yield Foot(*_KEYS)

    def on_mount(self) -> None:
        """Look for what comes."""
        self._follows = True
        self.set_interval(0.2, self._look)

    # --- what is shown

    def _matching(self, lines: tuple[Line, ...]) -> list[Line]:
        words = self.query_one("#log-filter", Input).value.casefold().split()
        return [
            line
            for line in lines
            if line.level >= self._level and all(word in f"{line.name} {line.text}".casefold() for word in words)
        ]

    @on(Input.Changed, "#log-filter")
    def _again(self) -> None:
        """All of it anew."""
        self._seen = 0
        self.query_one(RichLog).clear()
        self._look()

    def _look(self) -> None:
        lines = self._kept.lines
        rows = self.query_one(RichLog)
        if self._seen < self._kept.n_records and rows.size.width:
            new = tuple(line for line in lines if line.number >= self._seen)
            self._seen = lines[-1].number + 1
            for line in self._matching(new):
                rows.write(_drawn(line), width=rows.scrollable_content_region.width, scroll_end=False)
            if self._follows:
                rows.scroll_end(animate=False, immediate=True)
        name = next(logging.getLevelName(level).lower() for level in _LEVELS.values() if level == self._level)
        about = f"{name} and above · {'following' if self._follows else 'not following'}"
        self.query_one(Heading).say(about)
        self.query_one("#log-path", Static).update(self._kept.failure or str(self._kept.path))

    def on_resize(self, event: events.Resize) -> None:
        """Lines are broken where the screen ends."""
        self.call_after_refresh(self._again)

    # --- keys

    def action_level(self, letter: str) -> None:
        """Show records from that level on; everything is logged from then on where that was asked for."""
        self._level = _LEVELS[letter]
        if self._level == logging.DEBUG:
            logging.getLogger("gguf_vl").setLevel(logging.DEBUG)
        self._again()

    def action_filter(self) -> None:
        """Type the words."""
        self.query_one("#log-filter", Input).focus()

    @on(Input.Submitted, "#log-filter")
    def _to_lines(self) -> None:
        self.query_one(RichLog).focus()

    def action_follow(self) -> None:
        """Stay at the newest line, or no more."""
        self._follows = not self._follows
        if self._follows:
            self.query_one(RichLog).scroll_end(animate=False)
        self._look()

    async def action_copy(self) -> None:
        """All lines that are shown, by OSC 52 and the platform's clipboard."""
        from gguf_vl.media.clipboard import copy

        lines = self._matching(self._kept.lines)
        text = "\n".join(_plain(line) for line in lines)
        self.app.copy_to_clipboard(text)
        await asyncio.to_thread(copy, text)
        self.notify(f"{len(lines):,} line{'s' * (len(lines) != 1)} copied.", timeout=3)

    def action_back(self) -> None:
        """Clear the filter; without one, leave."""
        words = self.query_one("#log-filter", Input)
        if words.value:
            words.value = ""
            self._to_lines()
        else:
            self.dismiss()


def _plain(line: Line) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line.created))
    return f"{at} {_letter(line)} {line.name.removeprefix('gguf_vl.')}: {line.text}"


def _letter(line: Line) -> str:
    return next((_LETTERS[level] for level in sorted(_LETTERS, reverse=True) if line.level >= level), "D")


def _drawn(line: Line) -> Text:
    """Levels are told by their letters, and by weight."""
    style = {"E": "bold underline", "W": "bold", "D": "dim"}.get(_letter(line), "")
    return Text(_plain(line), style)
