"""The chat: which one is shown, what comes of its questions, and what the model is doing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from gguf_vl.chat.presets import Preset, presets
from gguf_vl.errors import ChatNotFound, GgufVlError
from gguf_vl.tui.actions import PRESET_KEYS, bindings
from gguf_vl.tui.answering import Began, Came, Ended, News
from gguf_vl.tui.attaching import Preparing
from gguf_vl.tui.screens.question import QuestionScreen
from gguf_vl.tui.telling import banner, doing, numbers
from gguf_vl.tui.widgets.banner import Banner
from gguf_vl.tui.widgets.chips import Chips
from gguf_vl.tui.widgets.prompt import Prompt, Suggestions
from gguf_vl.tui.widgets.status import StatusLine
from gguf_vl.tui.widgets.transcript import Transcript
from gguf_vl.types import Finished, Progress, Text, Thinking

if TYPE_CHECKING:
    from gguf_vl.fit.choice import Chosen

WAITS = "waits for the answer above"
_WRITING = "writing · Esc stops"


class ChatScreen(QuestionScreen):
    """One chat of the history. What is done with its turns is in `TurnScreen`, what questions begin with in
    `TaskScreen`, and how they are written in `QuestionScreen`.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("chat"),
        *(
            Binding(key, f"preset({n})", show=False, priority=True, id=f"preset_{n + 1}")
            for n, key in enumerate(PRESET_KEYS)
        ),
    ]

    def __init__(self, typed: str = "") -> None:
        super().__init__()
        self._typed = typed
        self._wished: tuple[int, int | None] | None = None  # the chat to be shown next, and a turn in it
        self._coming = -1  # the chat that is being put on the screen
        self._n_read = 0  # how often turns were read to be shown: news from before is in them
        self._chosen: Chosen | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Static(id="title", markup=False)
        yield Banner()
        yield Transcript()
        suggested = Suggestions()
        yield suggested
        yield Chips()
        yield Static(id="presets")
        yield Prompt(suggested)
        yield StatusLine()

    def on_mount(self) -> None:
        """Be drawn at once; what takes writing to the disk comes then."""
        app = self.app
        self.preparing = Preparing(app.history, app.model, lambda: app.settings, self.query_one(Chips).of)
        keys = [f"[@click=screen.preset({n})][b]{PRESET_KEYS[n].upper()}[/] {each.slash}[/]" for n, each in _first()]
        self.query_one("#presets", Static).update("  ".join(keys))
        prompt = self.query_one(Prompt)
        prompt.insert(self._typed)
        prompt.focus()
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        """Show the chat that was left in the middle of something, else a new one."""
        history = self.app.history
        try:
            await self._show(self._left_off() or history.new_chat().id)
        except GgufVlError as error:  # a full disk, say: what is there can be read nevertheless
            self.complain(error)
            with self.complaining():
                for chat in history.chats(limit=1):
                    await self._show(chat.id)

    def _left_off(self) -> int | None:
        """The chat whose answer was being written when the program was killed, else the one with something unsent."""
        history = self.app.history
        for turn_id in reversed(history.recovered):
            with suppress(ChatNotFound):  # it was deleted
                return history.chat(history.turn(turn_id).chat_id).id
        return history.take_unsent()

    # --- which chat

    def open(self, chat_id: int, turn_id: int | None = None) -> None:
        """Show a chat as the history has it, at a turn where one is given. Of several wishes the last one counts; an
        answer that is written in the chat before goes on.
        """
        is_busy = self._wished is not None or self._coming >= 0
        self._wished = chat_id, turn_id
        if not is_busy:
            self.run_worker(self._show_wished())

    async def _show_wished(self) -> None:
        while self._wished:
            (chat_id, turn_id), self._wished = self._wished, None
            try:
                await self._show(chat_id, turn_id)
            except ChatNotFound as error:  # another window has deleted it
                self.complain(error)
                with self.complaining():
                    await self._show(self.app.history.new_chat().id)
            except GgufVlError as error:
                self.complain(error)

    async def _show(self, chat_id: int, turn_id: int | None = None) -> None:
        history, transcript = self.app.history, self.query_one(Transcript)
        if turn_id is not None and turn_id not in {turn.id for turn in history.turns(chat_id)}:
            for turn in history.path(turn_id):
                history.choose(turn.id)
        async with self.drawing:
            try:
                self._coming = chat_id
                turns, title = history.turns(chat_id), history.chat(chat_id).title
                self._n_read += 1
                await transcript.show(turns, turn_id)
                self.turn_to(chat_id)
            finally:
                self._coming = -1
        for turn in turns:
            if self.app.answers.is_waiting(turn.id) and (view := transcript.of(turn.id)):
                view.told(WAITS)
        if turn_id is not None and (chosen := transcript.of(turn_id)):
            chosen.focus()
        elif self.focused is None or not self.focused.is_attached:
            self.query_one(Prompt).focus()
        self.query_one("#title", Static).update(title)
        self.tell_state()

    # --- what comes

    def answer_came(self, chat_id: int, news: News) -> None:
        """Draw what happens in a chat, if it is this one, or the one that comes."""
        if chat_id in (self.chat_id, self._coming) and self.is_mounted:
            self.call_later(self._draw, chat_id, self._n_read, news)

    async def _draw(self, chat_id: int, n_read: int, news: News) -> None:
        async with self.drawing:
            is_known = isinstance(news, Came) and n_read != self._n_read  # the turns were read behind it
            if chat_id == self.chat_id and not is_known:
                await self._draw_news(news)
        self.tell_state(news)

    async def _draw_news(self, news: News) -> None:
        transcript = self.query_one(Transcript)
        match news:
            case Began(turn, waits):
                if view := transcript.of(turn.id):
                    view.goes_on(turn)
                elif transcript.last and transcript.last.id == turn.parent_id:
                    view = await transcript.add(turn)
                else:  # in the place of another branch
                    self.open(self.chat_id)
                if view and waits:
                    view.told(WAITS)
            case Came(turn_id, event) if view := transcript.of(turn_id):
                match event:
                    case Text(text):
                        view.came(text=text)
                    case Thinking(text):
                        view.came(thinking=text)
                    case Progress():
                        view.told(doing(event))
                    case Finished(dropped_messages=n) if n:
                        self.notify(f"The oldest {n} messages had no room in the context, and were left out.")
            case Ended(turn, failure):
                transcript.put(turn)
                if view := transcript.of(turn.id):
                    await view.ended(turn)
                if failure:
                    self.complain(failure)

    async def action_stop(self) -> None:
        """End the answer; without one close what is open, or leave an edit."""
        prompt = self.query_one(Prompt)
        if prompt.is_completing:
            prompt.close_suggestions()
        elif await self.app.answers.stop(self.chat_id):
            pass
        elif self.editing:
            self.leave_edit()
        else:
            prompt.focus()

    def on_prompt_left(self) -> None:
        """Up, out of an empty prompt."""
        self.action_to_messages()

    def on_prompt_help_asked(self) -> None:
        """`?` in an empty prompt."""
        self.app.action_help()

    def model_changed(self) -> None:
        """Say what has become of the model."""
        if self.is_mounted:
            if self.app.model.state == "ready" and self._chosen is None:
                self._recommend()
            self.tell_state()

    @work(exclusive=True, group="recommend")
    async def _recommend(self) -> None:
        self._chosen = await self.app.model.recommended()
        self.tell_state()

    def downloads_changed(self) -> None:
        """Say how far they are."""
        if self.is_mounted:
            self.tell_state()

    @property
    def recommended(self) -> str:
        """The published model that suits this machine, empty where it is not known or none does."""
        return self._chosen.name if self._chosen and self._chosen.plan else ""

    def tell_state(self, news: News | None = None) -> None:
        """Bring the banner and the lowest line up to date."""
        if not self.app.is_running:
            return
        model, status = self.app.model, self.query_one(StatusLine)
        if isinstance(news, Came) and not isinstance(news.event, Progress):  # a thousand a second: nothing else changes
            status.numbers = replace(status.numbers, doing=_WRITING)
            return
        transcript = self.query_one(Transcript)
        briefly = transcript.last is not None or self.size.height < 24
        self.query_one(Banner).say(banner(model, self._chosen, self.app.downloads_now, briefly=briefly))
        last = transcript.last_answer
        told = numbers(model, last)
        if isinstance(news, Came) and isinstance(news.event, Progress):
            told = replace(told, doing=doing(news.event))
        elif self.app.answers.is_running(self.chat_id):
            told = replace(told, doing=told.doing or _WRITING)
        elif self.is_reading:
            told = replace(told, doing="reading pictures …")
        status.numbers = told


def _first() -> list[tuple[int, Preset]]:
    return list(enumerate(presets()[: len(PRESET_KEYS)]))
