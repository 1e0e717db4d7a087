"""Choosing pictures from the disk, each seen before it is taken."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

from rich.cells import cell_len
from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from gguf_vl.media.endings import PICTURES, VIDEOS
from gguf_vl.tui.clips import strip
from gguf_vl.tui.widgets.picture import PictureView

SUFFIXES = PICTURES | VIDEOS
"""What is listed, in lower case; what a file really is shows when it is opened."""

_NARROW = 80
"""Columns below which the preview stands under the list."""

_REST_S = 0.08


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder or a picture file in the list; `n_bytes` and `modified` (seconds since 1970) are a file's."""

    path: Path
    is_folder: bool
    n_bytes: int
    modified: float


def entries(folder: Path) -> list[Entry]:
    """The folders, pictures, PDFs and videos in `folder` that are not hidden, in no order. Raises OSError. Blocking."""
    found = []
    with os.scandir(folder) as there:
        for item in there:
            if item.name.startswith("."):
                continue
            try:
                is_folder = item.is_dir()
                if not is_folder and os.path.splitext(item.name)[1].lower() not in SUFFIXES:
                    continue
                stat = item.stat()
            except OSError:
                continue  # a link to nowhere, or gone meanwhile
            found.append(Entry(Path(item.path), is_folder, stat.st_size, stat.st_mtime))
    return found


def in_order(found: list[Entry], latest_first: bool) -> list[Entry]:
    """Folders by name, then files: the latest first, or by name, `2` before `10`."""
    folders = sorted((entry for entry in found if entry.is_folder), key=_by_name)
    files = [entry for entry in found if not entry.is_folder]
    files.sort(key=(lambda entry: -entry.modified) if latest_first else _by_name)
    return folders + files


def _by_name(entry: Entry) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", entry.path.name.casefold())
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)]


def shortcuts() -> list[Path]:
    """The home folder, and the folders in it where pictures usually are and that exist."""
    home = Path.home()
    names = ("Desktop", "Downloads", "Pictures")
    return [home, *(home / name for name in names if (home / name).is_dir())]


class _Names(OptionList):
    """The list. What is typed goes to the filter; only some keys are its own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.up", "Up", show=False),
        Binding("right", "select", "Open", show=False),
    ]


class PicturePicker(ModalScreen[list[Path] | None]):
    """Gives the chosen files, or None. It begins in `folder`, else where one was last while this app runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel"),
        Binding("space", "mark", "Mark", show=False),
        Binding("backspace", "shorten", "Up", show=False),
        Binding("f2", "turn", "By name or by date", show=False),
        *(Binding(f"f{3 + at}", f"shortcut({at})", show=False) for at in range(4)),
    ]
    DEFAULT_CSS = """
    PicturePicker { align: center middle; }
    PicturePicker > Vertical { width: 90%; height: 90%; max-width: 140; border: round $primary; background: $surface; }
    PicturePicker .line { height: 1; width: 1fr; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    PicturePicker #places { color: $text-muted; }
    PicturePicker #places Label { width: auto; padding: 0 1; }
    PicturePicker #places Label:hover { background: $boost; }
    PicturePicker #keys { color: $text-muted; }
    PicturePicker #problem { color: $error; display: none; }
    PicturePicker .-broken #problem { display: block; }
    PicturePicker Input { border: none; height: 1; padding: 0 1; background: $boost; }
    PicturePicker OptionList { width: 3fr; height: 1fr; border: none; padding: 0; background: $surface; }
    PicturePicker OptionList:focus { border: none; background-tint: transparent; }
    PicturePicker #beside { width: 2fr; height: 1fr; padding: 0 1; }
    PicturePicker #about { color: $text-muted; width: 1fr; height: auto; max-height: 2; }
    PicturePicker.-narrow > Vertical { width: 100%; height: 100%; }
    PicturePicker.-narrow #halves { layout: vertical; }
    PicturePicker.-narrow OptionList { width: 1fr; height: 3fr; }
    PicturePicker.-narrow #beside { width: 1fr; height: 2fr; }
    """

    _last: ClassVar[WeakKeyDictionary[App[object], Path]] = WeakKeyDictionary()

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._begin = folder
        self._folder = Path()
        self._found: list[Entry] = []
        self._listed: list[Entry] = []
        self._marked: dict[Path, None] = {}
        self._latest_first = True
        self._places: list[Path] = []
        self._previewed: Path | None = None
        self._resting: Timer | None = None

    def compose(self) -> ComposeResult:
        with Vertical():
            with Horizontal(id="places", classes="line"):
                yield Label("", id="order")
            yield Label("", id="where", classes="line", markup=False)
            yield Input(placeholder="type to filter", id="filter", select_on_focus=False)
            yield Label("", id="problem", classes="line", markup=False)
            with Horizontal(id="halves"):
                yield _Names(id="names", markup=False)
                with Vertical(id="beside"):
                    yield PictureView(fills=True, opens=False, id="preview")
                    yield Label("", id="about", markup=False)
            yield Label("", id="keys", classes="line", markup=False)

    async def on_mount(self) -> None:
        self.query_one("#filter").can_focus = False  # keys arrive at the list, and what is typed is put there
        self._names.focus()
        self._places = await asyncio.to_thread(shortcuts)
        labels = [f"F{3 + at} {'~' if at == 0 else place.name}" for at, place in enumerate(self._places)]
        await self.query_one("#places").mount(
            *(Label(label, id=f"place{at}", markup=False) for at, label in enumerate(labels))
        )
        self.go_to(self._begin or self._last.get(self.app) or Path())

    @property
    def _names(self) -> _Names:
        return self.query_one(_Names)

    @property
    def _filter(self) -> Input:
        return self.query_one("#filter", Input)

    # folders

    def go_to(self, folder: Path, choose: Path | None = None) -> None:
        """Lists `folder`, and sets out from `choose` where that is in it."""
        self.run_worker(self._read(folder, choose), exclusive=True, group="folder")

    async def _read(self, folder: Path, choose: Path | None) -> None:
        try:
            folder = await asyncio.to_thread(Path(os.path.abspath(folder)).expanduser)
            found = await asyncio.to_thread(entries, folder)
        except OSError as error:
            self._say_problem(f"{folder.name or folder} cannot be read: {(error.strerror or str(error)).lower()}.")
            return
        self._say_problem("")
        self._folder, self._found = folder, found
        self._last[self.app] = folder
        with self.prevent(Input.Changed):
            self._filter.value = ""
        self._list(choose)

    def _say_problem(self, problem: str) -> None:
        self.query_one("#problem", Label).update(problem)
        self.query_one(Vertical).set_class(bool(problem), "-broken")

    def _list(self, choose: Path | None = None) -> None:
        """Shows what the filter lets through."""
        words = self._filter.value.casefold().split()
        fitting = [entry for entry in self._found if all(word in entry.path.name.casefold() for word in words)]
        self._listed = in_order(fitting, self._latest_first)
        names = self._names
        names.clear_options()
        names.add_options([Option(self._line(entry)) for entry in self._listed])
        if self._listed:
            paths = [entry.path for entry in self._listed]
            files = (at for at, entry in enumerate(self._listed) if words and not entry.is_folder)
            names.highlighted = paths.index(choose) if choose in paths else next(files, 0)
        else:
            self._preview()
        self._say_where()

    def _line(self, entry: Entry) -> Text:
        name = entry.path.name
        if entry.is_folder:
            return Text(f"  {name}/", style="bold", no_wrap=True, overflow="ellipsis")
        mark = "✓" if entry.path in self._marked else " "
        return Text(f"{mark} {name}", no_wrap=True, overflow="ellipsis")

    def _say_where(self) -> None:
        n_files = sum(not entry.is_folder for entry in self._listed)
        count = f"{n_files} file{'' if n_files == 1 else 's'}"
        marked = f" · {len(self._marked)} marked" if self._marked else ""
        room = max(self.query_one("#where").content_size.width - cell_len(count + marked) - 3, 8)
        self.query_one("#where", Label).update(f"{_shortened(_with_tilde(self._folder), room)}  {count}{marked}")
        self.query_one("#order", Label).update(f"F2 {'latest first' if self._latest_first else 'by name'}")
        take = "take those marked" if self._marked else "open or take"
        self.query_one("#keys", Label).update(f"Enter {take} · Space mark · ← up · Esc cancel")

    # what is done

    def action_up(self) -> None:
        self.go_to(self._folder.parent, self._folder)

    def action_shorten(self) -> None:
        """Takes back a letter of the filter; without one goes up."""
        if self._filter.value:
            self._filter.value = self._filter.value[:-1]
        else:
            self.action_up()

    def action_turn(self) -> None:
        self._latest_first = not self._latest_first
        entry = self._chosen
        self._list(entry.path if entry else None)

    def action_shortcut(self, at: int) -> None:
        if at < len(self._places):
            self.go_to(self._places[at])

    def action_mark(self) -> None:
        """Marks the file or takes its mark back, and goes on to the next."""
        entry, at = self._chosen, self._names.highlighted
        if entry is None or at is None or entry.is_folder:
            return
        if entry.path in self._marked:
            del self._marked[entry.path]
        else:
            self._marked[entry.path] = None
        self._names.replace_option_prompt_at_index(at, self._line(entry))
        self._names.highlighted = min(at + 1, len(self._listed) - 1)
        self._say_where()

    def action_cancel(self) -> None:
        """Takes the filter back where there is one; else closes without a choice."""
        if self._filter.value:
            self._filter.value = ""
        else:
            self.dismiss(None)

    @property
    def _chosen(self) -> Entry | None:
        at = self._names.highlighted
        return self._listed[at] if at is not None and at < len(self._listed) else None

    @on(OptionList.OptionSelected)
    def _take(self, event: OptionList.OptionSelected) -> None:
        entry = self._listed[event.option_index]
        if entry.is_folder:
            self.go_to(entry.path)
        else:
            self.dismiss(list(self._marked or [entry.path]))

    @on(OptionList.OptionHighlighted)
    def _look(self) -> None:
        """Shows it once the keys rest: with an arrow held down there would be more to decode than is ever seen."""
        if self._resting:
            self._resting.stop()
        self._resting = self.set_timer(_REST_S, self._preview)

    @on(Input.Changed)
    def _filtered(self) -> None:
        self._list()

    def on_key(self, event: events.Key) -> None:
        if event.is_printable and event.character and event.character != " ":
            event.stop()
            self._filter.value += event.character

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self._filter.value += event.text.strip()

    def on_click(self, event: events.Click) -> None:
        if event.widget is None or event.widget.id is None:
            return
        if event.widget.id == "order":
            self.action_turn()
        elif event.widget.id.startswith("place") and event.widget.id[5:].isdecimal():
            self.action_shortcut(int(event.widget.id[5:]))

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < _NARROW, "-narrow")
        self.call_after_refresh(self._say_where)

    # the preview

    def _preview(self) -> None:
        entry, view = self._chosen, self.query_one("#preview", PictureView)
        file = entry.path if entry and not entry.is_folder else None
        if file != self._previewed:
            self._previewed = file
            is_clip = file is not None and file.suffix.lower() in VIDEOS
            view.show(partial(strip, file) if file and is_clip else file, file.name if file else "")
        self._say_about()

    @on(PictureView.Changed)
    def _say_about(self) -> None:
        entry, view = self._chosen, self.query_one("#preview", PictureView)
        if entry is None or entry.is_folder:
            about = ""
        elif view.problem:
            about = view.problem
        elif entry.path.suffix.lower() == ".pdf":
            about = f"first page · {_size(entry.n_bytes)}"
        elif entry.path.suffix.lower() in VIDEOS:
            about = f"video · {_size(entry.n_bytes)}"
        else:
            pixels = f"{view.pixels[0]}×{view.pixels[1]} · " if view.pixels else ""
            about = f"{pixels}{_size(entry.n_bytes)}"
        self.query_one("#about", Label).update(about)


def _size(n_bytes: int) -> str:
    if n_bytes < 1e6:
        return f"{max(n_bytes / 1e3, 0.1):.3g} kB"
    return f"{n_bytes / 1e6:.3g} MB"


def _with_tilde(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}".removesuffix("/.") if folder.is_relative_to(home) else str(folder)


def _shortened(path: str, width: int) -> str:
    """The end of a path that is too long: it says where one is."""
    if cell_len(path) <= width:
        return path
    while path and cell_len(path) >= width:
        path = path[1:]
    return f"…{path}"
