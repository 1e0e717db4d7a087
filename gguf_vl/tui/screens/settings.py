"""Every setting: its value, who said so, what it is for; changed where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from gguf_vl import paths
from gguf_vl.config import NAMES, Described, Origin, described, with_origins
from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.tui.actions import check_remapped
from gguf_vl.tui.screens.page import Heading, Page
from gguf_vl.tui.widgets.entry import Entry
from gguf_vl.tui.widgets.foot import Foot, Hint
from gguf_vl.tui.widgets.rows import Row

HOLD_AT_ONCE = frozenset("detail max_tokens temperature top_p top_k seed system theme keys".split())
"""The others are read when the program starts and the model is loaded."""
_NAME_WIDTH = max(map(len, NAMES)) + 2
_KEYS = (
    Hint("Enter", "change", "screen.change"),
    Hint("Space", "next value", "screen.step"),
    Hint("Del", "take out", "screen.take_out"),
    Hint("/", "search", "screen.search"),
    Hint("Esc", "back", "screen.back"),
)


class _State(NamedTuple):
    """A setting in force, whence it comes, and what will be said of it at the next start where that differs."""

    value: object
    origin: str
    later: str = ""


class SettingsScreen(Page):
    """All settings; those that hold from the next start only say so."""

    CSS_PATH = "../styles/settings.tcss"
    AUTO_FOCUS = "#settings-list"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", show=False),
        Binding("space", "step", show=False),
        Binding("delete,backspace", "take_out", show=False),
        Binding("down", "to_list", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._about: Mapping[str, Described] = described()

    def compose(self) -> ComposeResult:
        """The search over the list, and what the highlighted one is for."""
        yield Heading("Settings")
        yield Input(placeholder="Search names and what they are for", compact=True, id="settings-search")
        yield OptionList(compact=True, markup=False, id="settings-list")
        yield Static(id="settings-help", markup=False)
        yield Foot(*_KEYS)
        yield Entry()

    def on_mount(self) -> None:
        """Fill it."""
        self.query_one(Heading).say(str(paths.config_file()))
        self._show()

    # --- what is shown

    def _states(self) -> dict[str, _State]:
        """What holds in this app now, against what a start would find."""
        file = str(paths.config_file())
        written, found = with_origins(environment={}), with_origins()
        return {name: _state(getattr(self.ours.settings, name), written[name], found[name], file) for name in NAMES}

    @on(Input.Changed, "#settings-search")
    def _show(self) -> None:
        rows, words = self.query_one(OptionList), self.query_one("#settings-search", Input).value.casefold().split()
        here = self._name_here
        try:
            states = self._states()
        except GgufVlError as error:  # the file was broken by hand meanwhile
            rows.set_options([Option(f"{error.what} {error.fix}", disabled=True)])
            return
        names = [name for name in NAMES if all(word in f"{name} {self._about[name].help}".casefold() for word in words)]
        names.sort(key=lambda name: not (words and name.startswith(words[0])))
        options = [Option(self._row(name, states[name]), id=name) for name in names]
        rows.set_options(options or [Option("No setting is called so.", disabled=True)])
        rows.highlighted = names.index(here) if here in names else 0 if names else None

    def _row(self, name: str, state: _State) -> Row:
        value = self._text(name, state.value) or "–"
        changed = state.origin != "default"
        left = Content.assemble((f"{name:<{_NAME_WIDTH}}", "bold" if changed else ""), value.replace("\n", " ⏎ "))
        return Row((left, Content.styled(state.origin, "" if changed else "dim")))

    def _text(self, name: str, value: object) -> str:
        """A value as it is typed."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, Mapping):
            return ", ".join(f"{key}={text}" for key, text in value.items())
        if isinstance(value, int) and self._about[name].is_size:
            for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
                if value and value % (1 << shift) == 0:
                    return f"{value >> shift}{unit}"
        return f"{value:g}" if isinstance(value, float) else str(value)

    @on(OptionList.OptionHighlighted)
    def _explain(self) -> None:
        name = self._name_here
        if not name:
            return
        about, state = self._about[name], self._states()[name]
        holds = "Holds at once." if name in HOLD_AT_ONCE else "Holds from the next start."
        lines = [about.help.replace("`", ""), f"It is {about.expected}. {holds}"]
        if state.later:
            lines.append(state.later)
        self.query_one("#settings-help", Static).update("\n".join(lines))

    @property
    def _name_here(self) -> str:
        option = self.query_one(OptionList).highlighted_option
        return (option and option.id) or ""

    # --- changing

    def _change(self, name: str, text: str) -> None:
        text = text.strip()
        if name == "keys":
            check_remapped(dict.fromkeys((each.partition("=")[0].strip() for each in text.split(",") if each), ""))
        if name == "theme" and text and text not in self.app.available_themes:
            names = ", ".join(sorted(self.app.available_themes))
            raise UsageError(f"There is no theme {text!r}.", f"The themes are {names}.")
        self.ours.change_setting(name, text)
        if name == "theme" and text:
            self.app.theme = text
        self._show()
        if name not in HOLD_AT_ONCE:
            self.notify(f"{name} holds from the next start of gguf-vl.", timeout=5)

    @on(OptionList.OptionSelected)
    def action_change(self) -> None:
        """Type another value."""
        name = self._name_here
        if not name:
            return
        about, text = self._about[name], self._text(name, getattr(self.ours.settings, name))
        if "\n" in text or (name == "keys" and text.count(",") >= text.count("=") > 0):
            self.notify(f"It does not fit on a line: edit {paths.config_file()}.", severity="warning", markup=False)
            return
        words = tuple(sorted(self.app.available_themes)) if name == "theme" else about.words
        note = ", ".join(words) if name == "theme" else f"{about.expected[0].upper()}{about.expected[1:]}"
        self.query_one(Entry).ask(
            name,
            text,
            lambda typed: self._change(name, typed),
            note=f"{note}. Empty takes it out. Enter keeps it, Esc leaves it.",
            words=words,
        )

    def action_step(self) -> None:
        """The next of a few values."""
        name = self._name_here
        if not name or not (words := self._about[name].words):
            self.action_change()
            return
        now = self._text(name, getattr(self.ours.settings, name))
        after = words[(words.index(now) + 1) % len(words)] if now in words else words[0]
        self.done(lambda: self._change(name, after))

    def action_take_out(self) -> None:
        """Say nothing about it in config.toml."""
        if name := self._name_here:
            self.done(lambda: self._change(name, ""))

    # --- moving

    def action_search(self) -> None:
        """Type what is searched for."""
        self.query_one("#settings-search", Input).focus()

    @on(Input.Submitted, "#settings-search")
    def action_to_list(self) -> None:
        """From the search to what was found."""
        self.query_one(OptionList).focus()

    def action_back(self) -> None:
        """Clear the search; without one, leave."""
        search = self.query_one("#settings-search", Input)
        if search.value:
            search.value = ""
            self.action_to_list()
        else:
            self.dismiss()


def _state(value: object, written: Origin, found: Origin, file: str) -> _State:
    """`written` is what config.toml says, `found` what a start would find without flags."""
    if value == found.value:
        return _State(value, "config.toml" if found.origin == file else found.origin)
    if value == written.value:
        origin = "config.toml" if written.origin == file else "default"
        return _State(value, origin, f"At the next start {found.origin} overrides it with {found.value}.")
    return _State(value, "given at the start")
