"""A video in the terminal: a strip of some frames, its name and how long it is."""

from __future__ import annotations

from functools import partial

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from gguf_vl.chat.turns import Attachment
from gguf_vl.tui.clips import FRAMES, strip
from gguf_vl.tui.widgets.picture import PictureView


class VideoView(Vertical):
    """A video on at most `room` columns and rows."""

    DEFAULT_CSS = """
    VideoView { width: auto; height: auto; }
    VideoView Static { width: auto; color: $text-muted; }
    """

    def __init__(self, video: Attachment, room: tuple[int, int]) -> None:
        super().__init__()
        self._video = video
        self._room = room

    def compose(self) -> ComposeResult:
        """The strip above the words."""
        video, (columns, rows) = self._video, self._room
        yield PictureView(
            partial(strip, video.path),
            video.name,
            pixels=(FRAMES * video.width, video.height),
            max_columns=columns,
            max_rows=rows,
        )
        yield Static(f"▸ {video.name} · {video.seconds or 0:.1f} s", markup=False)
