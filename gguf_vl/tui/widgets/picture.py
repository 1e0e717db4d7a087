"""A picture in the terminal, and the screen that shows it large.

How it is drawn the app says: `picture_protocol` and `picture_cell` (a character's width and height in pixels), both as
`gguf_vl.tui.terminal.detect` found them. An app that says nothing gets half blocks.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.dom import NoScreen
from textual.errors import NoWidget
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Label

from gguf_vl.errors import InvalidPicture
from gguf_vl.tui import drawn, graphics
from gguf_vl.tui.terminal import USUAL_CELL, Protocol, cell_size

if TYPE_CHECKING:
    from PIL.Image import Image

    from gguf_vl.media.boxes import Box, Point

    Source = Path | bytes | Image | Callable[[], Path | bytes | Image]

_MOST_KEPT = 32
"""Pictures that stay drawn; of more, those that are out of sight are drawn again when they come back."""


class PictureView(Widget, can_focus=True):
    """A picture on as many cells as its shape needs; a line with its name where it cannot be shown.

    `source` is a file, its bytes, an image, or a function that gives one of them and is called in a thread; nothing is
    read before the widget is in sight. Where `pixels`, the picture's upright (width, height), is known beforehand the
    room is taken at once, and nothing jumps when the picture comes.
    """

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [("enter", "open", "Show large")]
    DEFAULT_CSS = """
    PictureView { width: auto; height: auto; }
    PictureView.-fills { width: 1fr; height: 1fr; }
    PictureView.-failed { color: $text-muted; }
    PictureView:focus { text-style: reverse; }
    PictureView.-drawn:focus { text-style: none; outline: round $accent; }
    """

    class Changed(Message):
        """Its size in pixels is known now, or its `problem`."""

    _kept: ClassVar[OrderedDict[PictureView, None]] = OrderedDict()

    def __init__(
        self,
        source: Source | None = None,
        title: str = "",
        *,
        pixels: tuple[int, int] | None = None,
        boxes: Sequence[Box] = (),
        points: Sequence[Point] = (),
        max_columns: int = 60,
        max_rows: int = 20,
        fills: bool = False,
        opens: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`fills` centres it in whatever room there is; `opens` lets a click or Enter show it large."""
        super().__init__(id=id, classes=classes)
        self.set_class(fills, "-fills")
        self.can_focus = opens
        self._max_room = (max_columns, max_rows)
        self._fills, self._opens = fills, opens
        self._drawn: drawn.Drawn | None = None
        self._opened: drawn.Opened | None = None
        self._asked: drawn.Wanted | tuple[int, int] | None = None
        self._source, self.title, self.pixels = source, title, pixels
        self._boxes, self._points = tuple(boxes), tuple(points)
        self.problem = ""

    @property
    def is_drawn(self) -> bool:
        """Whether the picture itself is what is seen."""
        return self._drawn is not None and self._protocol != "none"

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes drawn on it, in pixels of the original picture."""
        return self._boxes

    @boxes.setter
    def boxes(self, boxes: Sequence[Box]) -> None:
        self._boxes = tuple(boxes)
        self.refresh()

    def show(self, source: Source | None, title: str = "", pixels: tuple[int, int] | None = None) -> None:
        """Another picture, or none."""
        self.unload()
        self._source, self.title, self.pixels, self._boxes, self._points = source, title, pixels, (), ()
        self._failed("")
        self.refresh(layout=True)

    def unload(self) -> None:
        """Gives the memory back, the terminal's too. The picture is drawn again when it is next in sight."""
        if self._drawn and self._drawn.number is not None:
            self._tell_terminal(graphics.kitty_delete(self._drawn.number))
        self.workers.cancel_node(self)
        self._drawn = self._opened = self._asked = None
        self._kept.pop(self, None)
        self.set_class(False, "-drawn")
        self._styles_cache.clear()

    def on_unmount(self) -> None:
        self.unload()

    # what the app says

    @property
    def _protocol(self) -> Protocol:
        said: Protocol = getattr(self.app, "picture_protocol", "halfblock")
        return said

    @property
    def _cell(self) -> tuple[int, int]:
        said: tuple[int, int] = getattr(self.app, "picture_cell", USUAL_CELL)
        if self._protocol in ("kitty", "sixel"):
            return cell_size() or said  # read again: another font size changes it
        return said

    def _tell_terminal(self, command: str) -> None:
        """Past Textual's screen, in the order of what it writes."""
        if driver := self.app._driver:
            driver.write(command)
            driver.flush()

    # how large it is

    def get_content_width(self, container: Size, viewport: Size) -> int:
        if self.pixels is None or self._is_line:
            return min(cell_len(self._line), container.width)
        room = min(self._max_room[0], container.width or self._max_room[0])
        return drawn.fit(self.pixels, (room, self._max_room[1]), self._cell)[0]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if self.pixels is None or self._is_line:
            return 1
        return self._cells_in(width)[1]

    def _cells_in(self, width: int) -> tuple[int, int]:
        assert self.pixels is not None
        return drawn.fit(self.pixels, (max(min(width, self._max_room[0]), 1), self._max_room[1]), self._cell)

    def _wanted(self) -> drawn.Wanted | None:
        if self.pixels is None or not self.content_size.area:
            return None
        if self._fills:
            cells = drawn.fit(self.pixels, self.content_size, self._cell, enlarged=8)
        else:
            cells = self._cells_in(self.content_size.width)
            if cells[1] > self.content_size.height:
                cells = drawn.fit(self.pixels, (cells[0], self.content_size.height), self._cell)
        colors = self.app.console.color_system or "truecolor"  # as Textual takes it
        return drawn.Wanted(cells, self._cell, self._protocol, colors, self._boxes, self._points)

    # reading and drawing

    def _ask(self) -> None:
        """Starts what is missing: first the picture's size, from which its place follows, then the drawing."""
        if self._is_line or self._source is None:
            return
        wanted = self._wanted()
        if wanted and self._drawn and self._drawn.wanted == wanted:
            self._kept.move_to_end(self)
        elif (asked := wanted or self._max_room) != self._asked:
            self._asked = asked
            self.call_later(self._start, wanted)

    def _start(self, wanted: drawn.Wanted | None) -> None:
        self.run_worker(self._prepare(wanted), exclusive=True, group="picture")

    async def _prepare(self, wanted: drawn.Wanted | None) -> None:
        assert self._source is not None
        room, cell = (wanted.cells, wanted.cell) if wanted else (self._max_room, self._cell)
        side = max(room[0] * cell[0], room[1] * cell[1])
        try:
            opened = self._opened
            if opened is None:
                opened = await asyncio.to_thread(drawn.open_picture, self._source, side)
            if wanted is None:
                self._opened, self.pixels, self._asked = opened, opened.size, None
                self.refresh(layout=True)
                self.post_message(self.Changed())
                return
            self._opened = None
            self._show(await asyncio.to_thread(drawn.draw, opened, wanted))
        except InvalidPicture as error:
            self._failed(error.what)
            self.post_message(self.Changed())
        except OSError as error:
            self._failed(f"{self.title}: {error.strerror or error}")
            self.post_message(self.Changed())

    def _show(self, picture: drawn.Drawn) -> None:
        before = self._drawn
        if picture.upload:
            self._tell_terminal(picture.upload)
        self._drawn = drawn.without_upload(picture)
        if before and before.number is not None:
            self._tell_terminal(graphics.kitty_delete(before.number))
        self._kept[self] = None
        self._kept.move_to_end(self)
        for view in list(self._kept)[:-_MOST_KEPT]:
            if not view._is_in_sight:
                view.unload()
        self.set_class(self.is_drawn, "-drawn")
        self.refresh()

    def _failed(self, problem: str) -> None:
        self.problem = problem
        self.set_class(bool(problem), "-failed")
        self.refresh(layout=True)

    # what is seen

    @property
    def _is_line(self) -> bool:
        """Whether there will be no picture, only the line."""
        return bool(self.problem) or self._protocol == "none"

    @property
    def _line(self) -> str:
        size = f" {self.pixels[0]}×{self.pixels[1]}" if self.pixels else ""
        return f"▣ {self.title}{size}{' (cannot be shown)' if self.problem else ''}" if self._source else ""

    def _corner(self, cells: tuple[int, int]) -> tuple[int, int]:
        """Column and row of the content where the picture begins."""
        if not self._fills:
            return 0, 0
        return max(self.content_size.width - cells[0], 0) // 2, max(self.content_size.height - cells[1], 0) // 2

    def render_line(self, y: int) -> Strip:
        width, style = self.content_size.width, self.rich_style
        if self._drawn is None or self._is_line:
            text = set_cell_size(self._line, width) if y == 0 else " " * width
            return Strip([Segment(text, style)], width)
        cells = self._drawn.wanted.cells
        left, top = self._corner(cells)
        if not top <= y < top + cells[1]:
            return Strip.blank(width, style)
        strip = Strip.join([Strip.blank(left, style), self._drawn.strips[y - top]])
        return strip.adjust_cell_length(width, style)

    def render_lines(self, crop: Region) -> list[Strip]:
        self._ask()
        if self._drawn is None or self._is_line or not (self._drawn.placeholders or self._drawn.sixels):
            return super().render_lines(crop)
        lines = super().render_lines(Region(0, crop.y, self.outer_size.width, crop.height))
        return [self._with_more(strip, y, crop) for y, strip in enumerate(lines, crop.y)]

    def _with_more(self, strip: Strip, y: int, crop: Region) -> Strip:
        """A row of half blocks, and over it what the terminal can do better, where nothing has to stay in sight."""
        assert self._drawn is not None
        columns, rows = self._drawn.wanted.cells
        left, top = self._corner(self._drawn.wanted.cells)
        left, row = left + self.gutter.left, y - top - self.gutter.top
        cut = strip.crop(crop.x, crop.right)
        place = self._place()
        framed = self.has_focus and y in (0, self.outer_size.height - 1)
        if not 0 <= row < rows or place is None or framed:
            return cut
        if self._drawn.placeholders:
            shown = self._drawn.placeholders[row]
            if self.has_focus:  # its frame, where it is as wide as the widget
                left, columns, shown = left + 1, columns - 2, shown.crop(1, columns - 1)
            return Strip.join([strip.crop(0, left), shown, strip.crop(left + columns)]).crop(crop.x, crop.right)
        on_last_line = place.y + y >= self.app.size.height - 1  # where a terminal would scroll to make room
        if on_last_line or crop.x > left or crop.right < left + columns:
            return cut
        return graphics.with_sixels(cut, self._drawn.sixels[row], place.x + left)

    def _place(self) -> Region | None:
        """Where on the screen; None below another one, which tints all colours, those that say a number too."""
        try:
            return self.screen.find_widget(self).region if self.screen.is_active else None
        except (NoScreen, NoWidget):
            return None

    @property
    def _is_in_sight(self) -> bool:
        try:
            return bool(self.screen.find_widget(self).visible_region.area)
        except (NoScreen, NoWidget):
            return False

    # showing it large

    def on_click(self, event: events.Click) -> None:
        if self._opens:
            event.stop()
            self.action_open()

    def action_open(self) -> None:
        """The picture on the whole terminal."""
        if self._opens and self._source is not None:
            self.app.push_screen(PictureScreen(self._source, self.title, self.pixels, self._boxes, self._points))


class PictureScreen(ModalScreen[None]):
    """One picture on the whole terminal."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,enter,q", "close", "Close"),
        ("o", "open_elsewhere", "Open in the system's viewer"),
    ]
    DEFAULT_CSS = """
    PictureScreen { background: $background; }
    PictureScreen Label { width: 1fr; height: 1; padding: 0 1; color: $text-muted; }
    PictureScreen Label { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(
        self,
        source: Source,
        title: str = "",
        pixels: tuple[int, int] | None = None,
        boxes: Sequence[Box] = (),
        points: Sequence[Point] = (),
    ) -> None:
        super().__init__()
        self._source, self._title = source, title
        self._view = PictureView(source, title, pixels=pixels, boxes=boxes, points=points, fills=True, opens=False)
        self._viewer = system_viewer(os.environ) if isinstance(source, Path) else None

    def compose(self) -> ComposeResult:
        yield self._view
        keys = "Esc close" + (" · o open in the system's viewer" if self._viewer else "")
        yield Label(f"{self._title}  {keys}".strip(), markup=False)

    def on_click(self) -> None:
        self.action_close()

    def action_close(self) -> None:
        self.dismiss()

    def action_open_elsewhere(self) -> None:
        if self._viewer:
            self.run_worker(self._open_elsewhere([*self._viewer, str(self._source)]))

    async def _open_elsewhere(self, command: list[str]) -> None:
        silent = subprocess.DEVNULL
        try:
            await asyncio.create_subprocess_exec(*command, stdin=silent, stdout=silent, stderr=silent)
        except OSError as error:
            self.notify(f"{command[0]}: {error.strerror}", severity="error")


def system_viewer(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The command that opens a file in the viewer of this desktop; None over SSH and where there is no desktop."""
    if "SSH_CONNECTION" in environment or "SSH_TTY" in environment:
        return None
    if sys.platform == "darwin":
        return ("open",)
    if sys.platform == "win32":
        return ("explorer",)
    desktop = "DISPLAY" in environment or "WAYLAND_DISPLAY" in environment
    return ("xdg-open",) if desktop and shutil.which("xdg-open", path=environment.get("PATH")) else None
