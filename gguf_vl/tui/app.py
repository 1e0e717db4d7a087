"""The app: its screens, its colours, and what belongs to all of them, the history, the model and the answers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from textual import work
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.worker import WorkerFailed

from gguf_vl.chat.history import History
from gguf_vl.chat.presets import presets, tasks
from gguf_vl.config import Settings
from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.tui import log
from gguf_vl.tui.actions import ACTIONS, bindings, check_remapped, keymap
from gguf_vl.tui.answering import Answers, Ended, News
from gguf_vl.tui.background import begin
from gguf_vl.tui.ending import leave_when_told
from gguf_vl.tui.model import Make, Model, make_planned
from gguf_vl.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from gguf_vl.tui.downloads import Download, Downloads
    from gguf_vl.tui.terminal import Protocol


class GgufVlApp(App[None]):
    """`history` is closed with the app; `make` makes engines. `picture_protocol` is how pictures are drawn, and
    `picture_cell` a character's width and height in pixels; `typed` is what was typed before it began.
    """

    TITLE = "gguf-vl"
    CSS_PATH: ClassVar = ["styles/app.tcss", "styles/chat.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = bindings("everywhere")
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"

    def __init__(
        self,
        settings: Settings,
        history: History,
        *,
        make: Make = make_planned,
        picture_protocol: Protocol = "halfblock",
        picture_cell: tuple[int, int] = (10, 20),
        typed: str = "",
    ) -> None:
        super().__init__()
        check_remapped(settings.keys)
        self.settings = settings
        self.history = history
        self.picture_protocol = picture_protocol
        self.picture_cell = picture_cell
        self.model = Model(settings, self._model_changed, self.tell, make)
        self.answers = Answers(history, self.model, lambda: self.settings, self._answer_came)
        self._downloads: Downloads | None = None
        self._theme_is_the_persons = False
        self.crash: Exception | None = None  # what ended it, if something did
        self.error_console = Console(file=StringIO())  # Textual prints a crash with every variable: a person's words
        self.chat = ChatScreen(typed)

    # --- beginning and ending

    def on_load(self) -> None:
        """Before the terminal is taken over: whoever ends us from outside gets it back as it was."""
        if not self.is_headless:
            leave_when_told(self)

    def on_mount(self) -> None:
        """Show the chat at once; everything that takes time begins behind it."""
        log.keep()
        log.tell_errors(self.tell)
        self.set_keymap(keymap(self.settings.keys))
        self.theme = self._theme()
        self._theme_is_the_persons = True
        self.push_screen(self.chat)
        self.call_after_refresh(self._drawn)

    def _drawn(self) -> None:
        """The first screen is there, and takes keys."""
        gc.freeze()
        gc.set_threshold(700, 10, 1000)  # a look at all there is halts a streaming answer for a fifth of a second
        gc.enable()
        self.model.load()

    async def on_unmount(self) -> None:
        """End what runs: what was written is in the history already."""
        if self._downloads:
            self._downloads.close()
        await self.answers.close()
        await self.model.close()
        self.history.close()
        log.stop()

    def _handle_exception(self, error: Exception) -> None:
        """End, as Textual does, and keep why: `open_app` says it when the terminal is as it was. What fails for a known
        reason in a worker, as at a full disk, ends nothing.
        """
        if isinstance(error, WorkerFailed) and isinstance(error.error, GgufVlError):
            self.complain(error.error)
            return
        if self.crash is None:
            self.crash = error
            logging.getLogger("gguf_vl").critical("the terminal UI ended", exc_info=error)
        super()._handle_exception(error)

    def _theme(self) -> str:
        if self.settings.theme in self.available_themes:
            return self.settings.theme
        ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]  # rxvt, Konsole and others say it there
        return "textual-light" if ground in ("7", "15") else "textual-dark"

    def watch_theme(self, theme: str) -> None:
        """Keep a theme that the person chose."""
        if self._theme_is_the_persons and theme != self.settings.theme:
            try:
                self.change_setting("theme", theme)
            except UsageError as error:
                self.complain(error)

    # --- what the screens share

    @property
    def downloads(self) -> Downloads:
        """Models that are being fetched."""
        if self._downloads is None:
            from gguf_vl.tui.downloads import Downloads

            self._downloads = Downloads(self._downloads_changed)
        return self._downloads

    @property
    def downloads_now(self) -> tuple[Download, ...]:
        """How far they are, without making anything for it."""
        return self._downloads.states if self._downloads else ()

    def tell(self, line: str) -> None:
        """A line about what happens behind the screens."""
        self.notify(line, timeout=8, markup=False)

    def complain(self, error: GgufVlError) -> None:
        """Say what went wrong, and what to do."""
        self.notify(f"{error.what}\n{error.fix}", severity="error", timeout=10, markup=False)

    async def run_action(self, *args: Any, **more: Any) -> bool:
        """As Textual does; what fails, as with a full disk or a chat deleted elsewhere, is told and ends nothing."""
        try:
            return await super().run_action(*args, **more)
        except GgufVlError as error:
            self.complain(error)
            return True

    def change_setting(self, name: str, text: str) -> None:
        """Write a setting to config.toml, and have it in force where that needs no restart. Raises `UsageError`."""
        from gguf_vl.config import load_settings, set_setting

        set_setting(name, text)
        written = load_settings({}, environment={})
        self.settings = replace(self.settings, **{name: getattr(written, name)})
        if name == "keys":
            self.set_keymap(keymap(self.settings.keys))

    @work(exclusive=True, group="switch")
    async def switch_model(self, name: str) -> None:
        """Talk to another model from now on, if there is one of that name or path."""
        from gguf_vl.runtime.models import named

        try:
            await asyncio.to_thread(named, name)
        except GgufVlError as error:
            self.complain(error)
        else:
            self.model.load(name)

    def open_chat(self, chat_id: int, turn_id: int | None = None) -> None:
        """Show a chat, at a turn where one is given, and close what lies over it."""
        while self.screen is not self.chat and len(self.screen_stack) > 1:
            self.pop_screen()
        self.chat.open(chat_id, turn_id)

    def leave_chat(self, chat_id: int) -> None:
        """A chat is deleted: write nothing more in it, and show another one if it is shown."""
        begin(self.answers.abandon(chat_id))
        if self.chat.chat_id == chat_id:
            self.chat.open(self.history.new_chat().id)

    def _model_changed(self) -> None:
        self.chat.model_changed()

    def _answer_came(self, chat_id: int, news: News) -> None:
        self.chat.answer_came(chat_id, news)
        if isinstance(news, Ended) and news.failure and chat_id != self.chat.chat_id:
            self.tell(f"An answer in another chat failed: {news.failure.what} Ctrl+O lists the chats.")

    def _downloads_changed(self) -> None:
        self.chat.downloads_changed()

    # --- actions

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action that can be called by name, those of the chat while that is shown."""
        for action in ACTIONS:
            is_here = action.call.startswith("app.") or (action.call.startswith("chat.") and screen is self.chat)
            if is_here and action.name != "palette":
                call = action.call.replace("chat.", "screen.")
                yield SystemCommand(action.title, action.help, lambda call=call: self.run_action(call))
        for n, preset in enumerate(presets() if screen is self.chat else ()):
            yield SystemCommand(preset.title, preset.hint, lambda n=n: self.run_action(f"screen.preset({n})"))
        for name, task in tasks()[0].items() if screen is self.chat else ():
            yield SystemCommand(
                f"Task: {name}", task.purpose, lambda name=name: self.run_action(f"screen.task({name!r})")
            )

    def action_new_chat(self) -> None:
        """Begin another chat; the one before stays in the list."""
        self.open_chat(self.history.new_chat().id)

    def action_recommended(self) -> None:
        """Fetch the model that suits this machine, or switch to it."""
        from gguf_vl.errors import ModelNotFound
        from gguf_vl.runtime.models import of_name

        name = self.chat.recommended
        if not name:
            self.notify("No other model is recommended here. Ctrl+L lists them all.")
            return
        try:
            of_name(name)
        except ModelNotFound:
            self.downloads.pull(name)
        else:
            self.switch_model(name)

    def action_help(self) -> None:
        """Every key."""
        from gguf_vl.tui.screens.help import HelpScreen

        self._turn_to(HelpScreen)

    def action_chats(self) -> None:
        """All chats."""
        from gguf_vl.tui.screens.chats import ChatsScreen

        self._turn_to(ChatsScreen)

    def action_search(self) -> None:
        """All chats, to be searched."""
        self.search()

    def search(self, words: str = "") -> None:
        """All chats, searched for these words."""
        from gguf_vl.tui.screens.chats import ChatsScreen

        self._turn_to(ChatsScreen, lambda: ChatsScreen(searching=True, words=words))

    def action_models(self) -> None:
        """All models."""
        from gguf_vl.tui.screens.models import ModelsScreen

        self._turn_to(ModelsScreen)

    def action_machine(self) -> None:
        """What this machine has, and what the model takes of it."""
        from gguf_vl.tui.screens.machine import MachineScreen

        self._turn_to(MachineScreen)

    def action_settings(self) -> None:
        """The settings."""
        from gguf_vl.tui.screens.settings import SettingsScreen

        self._turn_to(SettingsScreen)

    def action_logs(self) -> None:
        """What was logged."""
        from gguf_vl.tui.screens.logs import LogsScreen

        self._turn_to(LogsScreen)

    def action_parameters(self) -> None:
        """System prompt and sampling of the chat."""
        from gguf_vl.tui.screens.parameters import ParametersScreen

        self._turn_to(ParametersScreen, lambda: ParametersScreen(self.chat.chat_id))

    def _turn_to(self, kind: type[Screen[Any]], make: Callable[[], Screen[Any]] | None = None) -> None:
        """Open a screen in place of the one over the chat; the key that opened it closes it again."""
        was_there = isinstance(self.screen, kind)
        while self.screen is not self.chat and len(self.screen_stack) > 1:
            self.pop_screen()
        if not was_there:
            self.push_screen(make() if make else kind())
