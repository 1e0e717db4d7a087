"""Where a question is written: it grows with its lines, takes pasted pictures and paths, and completes words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, TextArea

from gguf_vl.tui.actions import bindings
from gguf_vl.tui.completing import Suggestion, suggestions

MOST = 50_000
"""Characters that are pasted at once: more fill any context that fits a laptop, and slow every key down."""


class Suggestions(OptionList, can_focus=False):
    """What the word before the cursor could become, above the prompt."""

    def show(self, found: list[Suggestion], *, offered: bool) -> None:
        """Show these, and none by hiding; the first one highlighted, unless they are only `offered`."""
        self.clear_options()
        width = max((len(each.title) for each in found), default=0)
        self.add_options(Content.assemble(each.title.ljust(width), "  ", (each.help, "dim")) for each in found)
        self.display = bool(found)
        if found and not offered:
            self.highlighted = 0


class Prompt(TextArea):
    """The question being written. Posts what is to be done with it; the screen does it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("prompt"),
        *bindings("everywhere", "chat"),  # here too: whatever keys they have now, a text area has not
        Binding("tab", "complete", show=False, priority=True),
        Binding("up", "up", show=False, priority=True),
        Binding("down", "down", show=False, priority=True),
    ]

    @dataclass
    class Sent(Message):
        """Enter was pressed."""

        text: str

    @dataclass
    class Pasted(Message):
        """Files were pasted or dropped, or completed after an `@`."""

        paths: tuple[Path, ...]

    @dataclass
    class TooLong(Message):
        """A text was pasted that has more characters than a prompt takes."""

        n_characters: int

    class Left(Message):
        """The cursor went up out of an empty prompt."""

    class HelpAsked(Message):
        """`?` was typed into an empty prompt."""

    def __init__(self, suggested: Suggestions) -> None:
        super().__init__(
            soft_wrap=True,
            tab_behavior="focus",
            show_line_numbers=False,
            compact=True,
            highlight_cursor_line=False,
            placeholder="Ask about pictures, PDFs, videos; drop, paste (Ctrl+V), choose (Ctrl+G) · / commands · ? keys",
        )
        self._suggested = suggested
        self._found: list[Suggestion] = []

    def cut(self, sent: str) -> None:
        """Take away what was sent, and leave what was typed behind it."""
        if self.text.startswith(sent):
            self.delete((0, 0), self._place(len(sent)))

    def turn_to(self, text: str) -> None:
        """Begin with another text: nothing of the one before can be had back here."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def write(self, text: str, selected: tuple[int, int] | None = None) -> None:
        """Put a text in place of what is there, with [start, end) of it selected; the cursor at its end without. What
        was there can be had back by undoing.
        """
        start, end = selected or (len(text), len(text))
        self.replace(text, (0, 0), self.document.end)
        self.move_cursor(self._place(start))
        if end > start:
            self.move_cursor(self._place(end), select=True)
        self.focus()

    def _place(self, index: int) -> tuple[int, int]:
        before = self.text[:index]
        return before.count("\n"), index - (before.rfind("\n") + 1)

    @property
    def _before(self) -> str:
        row, column = self.cursor_location
        return "\n".join([*self.text.split("\n")[:row], self.document[row][:column]])

    # --- completing

    def on_text_area_changed(self) -> None:
        """Suggest what fits."""
        self._suggest(suggestions(self._before) if self.text and self.has_focus else [])

    def on_blur(self) -> None:
        """Suggest nothing to nobody."""
        self._suggest([])

    def _suggest(self, found: list[Suggestion]) -> None:
        self._found = found
        nothing_typed = bool(found) and found[0].start == len(self._before)
        self._suggested.show(found, offered=nothing_typed)

    @property
    def is_completing(self) -> bool:
        """Whether there are suggestions to take one of."""
        return bool(self._found)

    def close_suggestions(self) -> None:
        """Have none until something else is typed."""
        self._suggest([])

    def take_suggestion(self, index: int | None = None) -> None:
        """Complete the word with the highlighted suggestion, or that one."""
        index = self._suggested.highlighted if index is None else index
        chosen = self._found[index or 0]
        is_picture = chosen.path is not None and not chosen.text.endswith("/")
        start, end = self._place(chosen.start), self.cursor_location
        self.replace("" if is_picture else chosen.text, start, end)
        if is_picture and chosen.path:
            self.post_message(self.Pasted((chosen.path,)))

    # --- keys
    #
    # A binding with priority is called before the keys typed ahead of it have come here: over a slow line "Go" and
    # Enter arrive together. So each of these waits for its turn.

    def action_send(self) -> None:
        """Send, or take the highlighted suggestion; a whole slash command is sent."""
        self.call_later(self._send)

    def _send(self) -> None:
        is_whole = self.is_completing and any(each.text == self.text for each in self._found)
        if self.is_completing and self._suggested.highlighted is not None and not is_whole:
            self.take_suggestion()
            if not self.text.startswith("/") or self.text.endswith((" ", "=")):
                return
        self.close_suggestions()
        self.post_message(self.Sent(self.text))

    def action_new_line(self) -> None:
        """Begin another line."""
        self.call_later(self.insert, "\n")

    def action_complete(self) -> None:
        """Take the suggestion; without one go to the next widget."""
        self.call_later(self._complete)

    def _complete(self) -> None:
        if self.is_completing:
            self.take_suggestion()
        else:
            self.screen.focus_next()

    def action_up(self) -> None:
        """Up among the suggestions, in the text, or out of an empty prompt."""
        self.call_later(self._up)

    def _up(self) -> None:
        if self.is_completing:
            self._suggested.action_cursor_up()
        elif not self.text:
            self.post_message(self.Left())
        else:
            self.action_cursor_up()

    def action_down(self) -> None:
        """Down among the suggestions, or in the text."""
        self.call_later(self._down)

    def _down(self) -> None:
        if self.is_completing:
            self._suggested.action_cursor_down()
        else:
            self.action_cursor_down()

    # Textual calls the text area's own handlers behind these two, unless they prevent it.

    async def _on_key(self, event: events.Key) -> None:
        if event.character == "?" and not self.text:
            event.stop()
            event.prevent_default()
            self.post_message(self.HelpAsked())

    async def _on_paste(self, event: events.Paste) -> None:
        """Files where all of it is files, text otherwise."""
        from gguf_vl.media.dropped import dropped_paths

        if paths := dropped_paths(event.text):
            event.stop()
            event.prevent_default()
            self.post_message(self.Pasted(paths))
        elif len(event.text) > MOST:
            event.stop()
            event.prevent_default()
            self.post_message(self.TooLong(len(event.text)))
