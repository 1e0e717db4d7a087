"""System prompt and sampling of a chat: what holds, who said so, and the way back to what is recommended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static, TextArea

from gguf_vl.chat.presets import task_of
from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.tui.sampling import FIELDS, Field, InForce, in_force
from gguf_vl.tui.widgets.choice import Choice
from gguf_vl.tui.widgets.foot import Foot, Hint
from gguf_vl.types import Detail

if TYPE_CHECKING:
    from gguf_vl.tui.app import GgufVlApp

_FIELDS = {f"of-{field.name}": field for field in FIELDS}


class ParametersScreen(ModalScreen[None]):
    """What is typed holds at once, and only for this chat; an empty field is what is recommended."""

    CSS_PATH = "../styles/parameters.tcss"
    AUTO_FOCUS = "#of-temperature"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (25, "-high")]  # noqa: RUF012  as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", show=False),
        Binding("ctrl+r", "clear", show=False),
        Binding("f5", "clear_all", show=False, priority=True),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, chat_id: int) -> None:
        super().__init__()
        self._chat_id = chat_id
        self._otherwise: dict[str, str] = {}

    @property
    def _ours(self) -> GgufVlApp:
        return cast("GgufVlApp", self.app)

    def compose(self) -> ComposeResult:
        """The prompt over the numbers."""
        chat, settings = self._ours.history.chat(self._chat_id), self._ours.settings
        with Vertical(id="panel"):
            yield Label(
                Content.assemble(("Parameters of this chat", "bold"), "  ", (chat.title, "dim")), id="parameters-title"
            )
            with VerticalScroll(id="fields", can_focus=False):
                yield Static("System prompt", classes="part")
                placeholder = f"As in the settings: {settings.system}" if settings.system else "None"
                yield TextArea(chat.system or "", placeholder=placeholder, compact=True, id="system")
                yield Static("Sampling", classes="part")
                for field in FIELDS:
                    value = chat.sampling.get(field.name)
                    with Horizontal(classes="field"):
                        yield Label(field.name, classes="name")
                        yield Input("" if value is None else f"{value}", compact=True, id=f"of-{field.name}")
                        yield Static(id=f"now-{field.name}", markup=False, classes="now")
                with Horizontal(classes="field", id="detail-row"):
                    yield Label("detail", classes="name")
                    yield Choice(get_args(Detail), settings.detail, id="detail")
                    yield Static("of pictures, in every chat", id="now-detail", classes="now")
            yield Static(id="parameters-note", markup=False)
            yield Foot(
                Hint("Tab", "next", "app.focus_next"),
                Hint("Ctrl+R", "as recommended", "screen.clear"),
                Hint("F5", "all as recommended", "screen.clear_all"),
                Hint("Esc", "done", "screen.close"),
            )

    def on_mount(self) -> None:
        """Say what holds, now and when the model is there."""
        self._had_model = self._ours.model.made is not None
        self._show()
        self.set_interval(0.25, self._look_for_model)

    def _look_for_model(self) -> None:
        if not self._had_model and self._ours.model.made is not None:
            self._had_model = True
            self._show()

    # --- what holds

    def _show(self) -> None:
        made = self._ours.model.made
        if made is None:
            for field in FIELDS:
                typed = self.query_one(f"#of-{field.name}", Input).value
                self.query_one(f"#now-{field.name}", Static).update("this chat" if typed else "as the model recommends")
            return
        history = self._ours.history
        chat = history.chat(self._chat_id)
        turns, draft = history.turns(chat.id), history.draft(chat.id)
        pictures = bool(draft.attachments) or any(turn.attachments for turn in turns)
        task = None
        with suppress(UsageError):  # the file of the person's own tasks is broken: the answer tells it
            task = task_of(chat.preset)
        both = [
            in_force(chat, task, self._ours.settings, made.installed, pictures=each)
            for each in (pictures, not pictures)
        ]
        self.query_one("#parameters-title", Label).update(
            Content.assemble(("Parameters of this chat", "bold"), (f"   {made.installed.name}", "dim"))
        )
        for field in FIELDS:
            line, otherwise = _line(field, *both, pictures=pictures)
            self._otherwise[field.name] = otherwise and f"It is {otherwise}."
            self.query_one(f"#now-{field.name}", Static).update(f"{line} · {otherwise}" if otherwise else line)

    # --- what is typed

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        wrong = [field for field in FIELDS if self._typed_in(field) and field.read(self._typed_in(field)) is None]
        for field in FIELDS:
            self.query_one(f"#of-{field.name}", Input).set_class(field in wrong, "-invalid")
        self._save()
        self._say_about(_FIELDS[event.input.id or ""])

    @on(Input.Submitted)
    def _next(self) -> None:
        self.focus_next()

    def _typed_in(self, field: Field) -> str:
        return self.query_one(f"#of-{field.name}", Input).value.strip()

    def _save(self) -> None:
        """Keep what can be; a field that cannot stays as it was."""
        before = self._ours.history.chat(self._chat_id).sampling
        chosen = dict(before)
        for field in FIELDS:
            text = self._typed_in(field)
            number = field.read(text) if text else None
            if number is not None:
                chosen[field.name] = number
            elif not text:
                chosen.pop(field.name, None)
        if chosen == before or self._done_with(chosen):
            self._show()

    def _done_with(self, chosen: dict[str, object]) -> bool:
        try:
            self._ours.history.set_sampling(self._chat_id, chosen)
        except GgufVlError as error:
            self._say(f"{error.what} {error.fix}", wrong=True)
            return False
        return True

    @on(TextArea.Changed, "#system")
    def _wrote(self) -> None:
        text = self.query_one("#system", TextArea).text
        kept = text if text.strip() else None
        try:
            if kept != self._ours.history.chat(self._chat_id).system:
                self._ours.history.set_system(self._chat_id, kept)
        except GgufVlError as error:
            self._say(f"{error.what} {error.fix}", wrong=True)

    @on(Choice.Chosen)
    def _chose_detail(self, event: Choice.Chosen) -> None:
        try:
            self._ours.change_setting("detail", event.word)
        except GgufVlError as error:
            self._say(f"{error.what} {error.fix}", wrong=True)

    # --- the line below

    def on_descendant_focus(self) -> None:
        """Say what the field is for."""
        focused = self.focused
        if field := _FIELDS.get((focused and focused.id) or ""):
            self._say_about(field)
        elif isinstance(focused, TextArea):
            self._say("What the model is told before everything else. Empty: as in the settings.")
        elif isinstance(focused, Choice):
            self._say("Image tokens per picture: fewer, as the picture's size asks for, or more. ← → choose.")

    def _say_about(self, field: Field) -> None:
        text = self._typed_in(field)
        if text and field.read(text) is None:
            self._say(f"✗ {field.name} cannot be {text}: it is {field.expected}.", wrong=True)
        else:
            self._say(f"{field.help} {self._otherwise.get(field.name, '')}")

    def _say(self, line: str, *, wrong: bool = False) -> None:
        note = self.query_one("#parameters-note", Static)
        note.update(line)
        note.set_class(wrong, "-wrong")

    # --- keys

    def action_clear(self) -> None:
        """The field where the cursor is: as recommended."""
        if isinstance(self.focused, Input):
            self.focused.value = ""
        elif isinstance(self.focused, TextArea):
            self.focused.text = ""

    def action_clear_all(self) -> None:
        """All numbers: as recommended. The system prompt stays."""
        with self.prevent(Input.Changed):
            for field in FIELDS:
                entry = self.query_one(f"#of-{field.name}", Input)
                entry.value = ""
                entry.remove_class("-invalid")
        self._save()
        self._say("Everything is as recommended.")

    def action_close(self) -> None:
        """Everything is kept already; what could not be is told."""
        wrong = [field.name for field in FIELDS if self._typed_in(field) and field.read(self._typed_in(field)) is None]
        if wrong:
            self.notify(f"As before, for what was typed could not be: {', '.join(wrong)}.", severity="warning")
        self.dismiss()


def _shown(field: Field, value: float | None) -> str:
    return field.unset if value is None else f"{value:g}" if isinstance(value, float) else f"{value}"


def _line(field: Field, now: InForce, otherwise: InForce, *, pictures: bool) -> tuple[str, str]:
    """The value in force and whence it comes; and what it would be with, or without, pictures where that differs."""
    value, other = now.values[field.name], otherwise.values[field.name]
    line = _shown(field, value) if value is None else f"{_shown(field, value):<5} {now.origins[field.name]}"
    return line, f"{_shown(field, other)} {'without' if pictures else 'with'} pictures" if value != other else ""
