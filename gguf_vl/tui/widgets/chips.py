"""The pictures and videos of the question being written: what they are, what they cost, how far they are encoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from textual.app import ComposeResult
from textual.containers import Horizontal, HorizontalScroll, Vertical
from textual.message import Message
from textual.widgets import Static

from gguf_vl.chat.turns import Attachment
from gguf_vl.tui.clips import strip
from gguf_vl.tui.widgets.picture import PictureView

THUMBNAIL = (10, 3)
"""Cells."""


class Chip(Horizontal):
    """One picture or video: its thumbnail, name, size or length and frames, tokens, and a cross to take it back."""

    @dataclass
    class Removed(Message):
        """The cross was clicked."""

        attachment: Attachment

    def __init__(self, attachment: Attachment) -> None:
        super().__init__(classes="video" if attachment.seconds is not None else None)
        self.attachment = attachment
        self._tokens: int | None = None
        self._frames: int | None = None
        self._state = ""

    def compose(self) -> ComposeResult:
        """The thumbnail, and the words beside it."""
        picture, size = self.attachment, (self.attachment.width, self.attachment.height)
        columns, rows = THUMBNAIL
        source = picture.path if picture.seconds is None else partial(strip, picture.path, 1)
        yield PictureView(source, picture.name, pixels=size, max_columns=columns, max_rows=rows)
        with Vertical():
            with Horizontal(classes="name"):
                yield Static(self.attachment.name, markup=False, classes="title")
                yield Static("[@click=remove]✕[/]", classes="cross")
            yield Static(markup=False, classes="cost")
            yield Static(markup=False, classes="state")

    def on_mount(self) -> None:
        """Say what is known so far."""
        self._show()

    def show(self, attachment: Attachment) -> None:
        """Show the same picture, or other frames of the same video."""
        if attachment != self.attachment:
            self.attachment, self._tokens, self._frames, self._state = attachment, None, None, ""
            self._show()

    def costs(self, tokens: int, frames: int | None = None) -> None:
        """Show how many image tokens the picture takes, and how many frames of a video these are."""
        self._tokens, self._frames = tokens, frames
        self._show()

    def encoded(self, done: int, total: int) -> None:
        """Show how far its encoding is, in image tokens."""
        if done >= total:
            self._state = "✓ encoded"
        else:
            filled = done * 6 // total
            self._state = f"{'█' * filled}{'░' * (6 - filled)} {done / total:.0%}"
        self._show()

    def told(self, line: str) -> None:
        """Show a line instead: why it waits, or what is wrong with it."""
        self._state = line
        self._show()

    def _show(self) -> None:
        for title in self.query(".title").results(Static):  # none before all is composed
            title.update(self.attachment.name)
            size = f"{self.attachment.width}×{self.attachment.height}"
            if self.attachment.seconds is not None:
                size = f"{self.attachment.seconds:.1f} s" + (f" · {self._frames:,} frames" if self._frames else "")
            self.query_one(".cost", Static).update(size + (f" · {self._tokens:,} tokens" if self._tokens else ""))
            self.query_one(".state", Static).update(self._state)

    def action_remove(self) -> None:
        """Take it back."""
        self.post_message(self.Removed(self.attachment))


class Chips(HorizontalScroll, can_focus=False):
    """The chips in a row; not there while there are none."""

    def show(self, attachments: tuple[Attachment, ...]) -> None:
        """Have chips for these, and keep those that are there already."""
        wanted = {attachment.id: attachment for attachment in attachments}
        for chip in self.query(Chip):
            if attachment := wanted.pop(chip.attachment.id, None):
                chip.show(attachment)
            else:
                chip.remove()
        self.mount_all(map(Chip, wanted.values()))
        self.display = bool(attachments)

    def of(self, attachment_id: int) -> Chip | None:
        """The chip of a picture, None where it was taken back."""
        return next((chip for chip in self.query(Chip) if chip.attachment.id == attachment_id), None)
