"""All keys as they are now, the slash commands, and how pictures, documents and videos get in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from gguf_vl import paths
from gguf_vl.chat.presets import presets
from gguf_vl.tui.actions import ACTIONS, PRESET_KEYS, Where, keys_of
from gguf_vl.tui.screens.page import Heading, Page
from gguf_vl.tui.widgets.foot import Foot, Hint
from gguf_vl.tui.widgets.rows import Keyed

_PLACES: Mapping[Where, str] = {
    "everywhere": "Everywhere",
    "chat": "In the chat",
    "prompt": "While you write",
    "message": "On a chosen message",
}
_NAMES = {
    "escape": "Esc", "question_mark": "?", "slash": "/", "left": "←", "right": "→", "up": "↑", "down": "↓",
    "delete": "Del", "enter": "Enter", "space": "Space", "tab": "Tab", "full_stop": ".", "backspace": "Backspace",
}  # fmt: skip
PICTURES = (
    ("Ctrl+V", "a screenshot, or files, from the clipboard"),
    ("drop", "pictures, PDFs and videos, or paste their paths"),
    ("@", "in the prompt completes a path"),
    ("PDF", "a page is a picture: report.pdf#3 is the third"),
    ("video", "a clip.mp4 is seen by its frames, in pairs"),
    ("https://…", "a picture's address, unless offline"),
)
MOUSE = (
    ("click", "a message, a branch, a link, a key at the foot"),
    ("wheel", "scrolls what is under the pointer"),
    ("Shift", "held, selects text as the terminal does"),
)
_KEY_WIDTH = 16


class HelpScreen(Page):
    """Escape, F1 and q close it."""

    CSS_PATH = "../styles/help.tcss"
    AUTO_FOCUS = "#help"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012  as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f1,q", "back", show=False)]

    def compose(self) -> ComposeResult:
        """Two columns, under each other where there is no room."""
        remapped = self.ours.settings.keys
        yield Heading("Keys and commands")
        with VerticalScroll(id="help"), Vertical(id="columns"):
            with Vertical():
                for place in ("everywhere", "chat", "prompt"):
                    yield from _part(_PLACES[place], _actions(place, remapped))
                yield from _part("Pictures, PDFs, videos", PICTURES)
                yield from _part("Presets", _presets())
                yield from _part("Mouse", MOUSE)
                yield from _remapping()
            with Vertical():
                yield from _part(_PLACES["message"], _actions("message", remapped))
                yield from _part("Commands in the prompt", _slashes())
        yield Foot(
            Hint("↑ ↓", "scroll"),
            Hint("PgUp PgDn", "by pages"),
            Hint("Esc", "back", "screen.back"),
        )

    def on_mount(self) -> None:
        """Where more is said."""
        self.query_one(Heading).say("Ctrl+P finds them by name")


def _part(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[Static]:
    yield Static(title, classes="part")
    yield Static(Keyed(list(rows), _KEY_WIDTH), classes="line")


def _actions(place: str, remapped: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for action in ACTIONS:
        if action.where == place:
            keys = " ".join(_name(key) for key in keys_of(action, remapped)) or "no key"
            about = action.help.replace("`", "")
            yield keys, f"{action.title}{' · ' + about if about else ''}"


def _presets() -> Iterator[tuple[str, str]]:
    for number, each in enumerate(presets()):
        key = f"{_name(PRESET_KEYS[number])} " if number < len(PRESET_KEYS) else ""
        yield f"{key}/{each.slash}", each.title


def _slashes() -> Iterator[tuple[str, str]]:
    yield "/task NAME", "Ask what a task asks, your own too; KEY=VALUE behind it"
    yield "/video FRAMES", "every=2 (seconds), frames=20, scenes or auto"
    yield from ((f"/{action.slash}", action.title) for action in ACTIONS if action.slash)


def _remapping() -> Iterator[Static]:
    yield Static("Other keys", classes="part")
    example = '[keys]\nnew_chat = "f11"\ncopy = "y,c"'
    yield Static(f"In {paths.config_file()}:", classes="line", markup=False)
    yield Static(example, classes="example", markup=False)
    yield Static("Each action by its name:", classes="line")
    yield Static(", ".join(action.name for action in ACTIONS), classes="names", markup=False)


def _name(key: str) -> str:
    """A key as it stands on the keyboard: `ctrl+o` is Ctrl+O."""
    *held, last = key.split("+")
    shown = _NAMES.get(last, last.upper() if held or (last[0] == "f" and last[1:].isdigit()) else last)
    return "+".join([*(each.capitalize() for each in held), shown])
