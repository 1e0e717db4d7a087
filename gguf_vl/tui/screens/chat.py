"""The chat: its turns, the pictures and the words of the next question, and what the model is doing."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList, Static

from gguf_vl.chat.presets import Preset, presets
from gguf_vl.errors import ChatNotFound, GgufVlError, UsageError
from gguf_vl.tui.actions import BY_SLASH, PRESET_KEYS, bindings
from gguf_vl.tui.answering import Began, Came, Ended, News
from gguf_vl.tui.attaching import Preparing, attach
from gguf_vl.tui.screens.tasks import TaskScreen
from gguf_vl.tui.telling import banner, doing, numbers
from gguf_vl.tui.widgets.banner import Banner
from gguf_vl.tui.widgets.chips import Chip, Chips
from gguf_vl.tui.widgets.prompt import MOST, Prompt, Suggestions
from gguf_vl.tui.widgets.status import StatusLine
from gguf_vl.tui.widgets.transcript import Transcript
from gguf_vl.types import Finished, Progress, Text, Thinking

if TYPE_CHECKING:
    from gguf_vl.fit.choice import Chosen

WAITS = "waits for the answer above"
_WRITING = "writing · Esc stops"
_URL = re.compile(r"https?://\S+", re.IGNORECASE)


class ChatScreen(TaskScreen):
    """One chat of the history: what is asked, and what comes. What is done with its turns is in `TurnScreen`, what
    questions begin with in `TaskScreen`.
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
        self._drawing = asyncio.Lock()
        self._n_brought = 0  # pictures that are being read
        self._sends_then = False
        self._kept = ""  # the draft, as the history has it
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
        async with self._drawing:
            try:
                self._coming = chat_id
                turns, title = history.turns(chat_id), history.chat(chat_id).title
                self._n_read += 1
                await transcript.show(turns, turn_id)
                self._turn_to(chat_id)
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

    def _turn_to(self, chat_id: int) -> None:
        """From one chat's prompt to the other's: nothing is typed between."""
        if chat_id == self.chat_id:
            return
        if self.editing:
            self.leave_edit(keep=self.query_one(Prompt).text != self.editing.text)  # what was changed is a draft then
        self.preparing.stop()
        history, prompt = self.app.history, self.query_one(Prompt)
        typed = prompt.text if self.chat_id < 0 else ""  # before there was a chat
        if self.chat_id >= 0:
            with suppress(ChatNotFound):
                history.set_draft(self.chat_id, prompt.text)
        self.chat_id, self._kept = chat_id, history.draft(chat_id).text
        self.begun_with = history.chat(chat_id).preset if self._kept else None
        prompt.turn_to(self._kept)
        prompt.insert(typed)
        self._show_chips()

    # --- what is being written

    def on_text_area_changed(self) -> None:
        """Keep what is typed the moment it is typed."""
        text = self.query_one(Prompt).text
        if not text:
            self.begun_with = None  # what was asked before began with it, perhaps: its chat remembers that
        if self.chat_id >= 0 and text != self._kept:
            with self.complaining():
                if not self._kept:
                    self.remember(self.begun_with)
                self.app.history.set_draft(self.chat_id, text)
                self._kept = text

    async def on_prompt_sent(self, message: Prompt.Sent) -> None:
        """Ask, finish an edit, or do what the slash command says."""
        text = message.text.strip()
        with self.complaining():
            if re.match(r"/\w+(\s|$)", text):
                self._command(*re.split(r"\s+|$", text[1:], maxsplit=1))
            elif self._n_brought:
                self._sends_then = True
                self.notify("The question goes when its picture is read.")
            elif self.editing:
                self.finish_edit(text)
            elif text or self.app.history.draft(self.chat_id).attachments:
                self.check_asked(message.text)
                await self._ask(message.text)

    async def _ask(self, text: str) -> None:
        app, chat_id = self.app, self.chat_id
        self.preparing.stop()  # what is computed is kept; the question itself goes before what is only prepared
        async with self._drawing:
            if chat_id != self.chat_id:
                return  # the text is in that chat's draft
            app.history.set_preset(chat_id, self.begun_with)
            app.history.set_draft(chat_id, text)  # without what was typed since
            path = app.history.turns(chat_id)
            turn = app.history.ask(chat_id, path[-1].id if path else None)
            self.begun_with, self._kept = None, ""
            self.query_one(Prompt).cut(text)
            self._show_chips()
            await self.query_one(Transcript).add(turn)
        app.answers.begin(turn)
        self.query_one("#title", Static).update(app.history.chat(chat_id).title)

    def _command(self, name: str, words: str) -> None:
        prompt, words = self.query_one(Prompt), words.strip()
        prompt.text = ""
        match name.casefold(), words:
            case "model", _ if words:
                self.app.switch_model(words)
            case "system", _ if words:
                try:
                    self.app.history.set_system(self.chat_id, words)
                except GgufVlError:
                    prompt.write(f"/system {words}")
                    raise
                self.notify("The system prompt of this chat is set.")
            case "picture", _ if words:
                self.bring(words if _URL.fullmatch(words) else Path(os.path.expanduser(words.strip("'\""))))
            case "search", _ if words:
                self.app.search(words)
            case "model", _:
                self.app.action_models()
            case "system", _:
                self.app.action_parameters()
            case called, _ if called in BY_SLASH:
                self.run_worker(self.run_action(BY_SLASH[called].call.replace("chat.", "screen.")))
            case "task", "":
                prompt.write("/task ")
            case "task", _:
                self.begin_task(*words.partition(" ")[::2])
            case called, _ if preset := next((each for each in presets() if each.slash == called), None):
                self.begin_preset(preset, words)
            case called, _:
                prompt.write(f"/{called} {words}".strip())
                self.notify(f"There is no command /{called}. `/` lists them.", severity="warning", markup=False)

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

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A suggestion was clicked."""
        if isinstance(event.option_list, Suggestions):
            self.query_one(Prompt).take_suggestion(event.option_index)

    # --- pictures

    def on_prompt_pasted(self, message: Prompt.Pasted) -> None:
        """Files were dropped, pasted or completed."""
        self.bring(*message.paths)

    def on_prompt_too_long(self, message: Prompt.TooLong) -> None:
        """Say why a text is not there."""
        what = f"That text has {message.n_characters:,} characters, and {MOST:,} at once are taken."
        self.complain(UsageError(what, "Paste the part that matters."))

    @work
    async def action_paste(self) -> None:
        """Take the picture on the clipboard, or its text: terminals paste text alone."""
        from gguf_vl.media.clipboard import grab

        try:
            found = await asyncio.to_thread(grab)
        except GgufVlError as error:
            if self.app.clipboard:  # what was copied here
                self.query_one(Prompt).insert(self.app.clipboard)
            else:
                self.complain(error)
            return
        self.bring(*((found,) if isinstance(found, bytes) else found))

    @work
    async def bring(self, *sources: str | Path | bytes) -> None:
        """Attach pictures and videos to the question, and begin to encode them."""
        if self.editing:
            what = "A picture cannot join a message that is being edited."
            self.complain(UsageError(what, "Send the edit, or leave it with Esc, first."))
            return
        chat_id, offline = self.chat_id, self.app.settings.offline
        self._n_brought += 1
        self.tell_state()
        for source in sources:
            try:
                for each in await self._with_pages(source):
                    await attach(self.app.history, chat_id, each, "clipboard.png", offline=offline)
                    if chat_id == self.chat_id:
                        self._show_chips()
            except GgufVlError as error:
                self.complain(error)
                self._sends_then = False  # not without its picture
        self._n_brought -= 1
        self.tell_state()
        if self._sends_then and not self._n_brought:
            self._sends_then = False
            if chat_id == self.chat_id:
                self.query_one(Prompt).action_send()

    async def _with_pages(self, source: str | Path | bytes) -> list[str | Path | bytes]:
        """The pages that are meant, where it is a document of several; else it itself."""
        from gguf_vl.media.given import pages_of
        from gguf_vl.media.video import is_video
        from gguf_vl.tui.screens.pages import PagesScreen

        if not isinstance(source, Path) or await asyncio.to_thread(is_video, source):
            return [source]
        n_pages = await asyncio.to_thread(pages_of, source)
        if n_pages == 1:
            return [source]
        numbers = await self.app.push_screen_wait(PagesScreen(source.name, n_pages))
        self._sends_then = self._sends_then and bool(numbers)
        return [f"{source}#{number}" for number in numbers or ()]

    @work
    async def action_pick(self) -> None:
        """Choose pictures from the disk."""
        from gguf_vl.tui.screens.picker import PicturePicker

        if paths := await self.app.push_screen_wait(PicturePicker()):
            self.bring(*paths)

    def on_chip_removed(self, message: Chip.Removed) -> None:
        """Take a picture back."""
        self._take_back(message.attachment.id)

    def action_detach(self) -> None:
        """Take the last picture back."""
        if attachments := self.app.history.draft(self.chat_id).attachments:
            self._take_back(attachments[-1].id)

    def _take_back(self, attachment_id: int) -> None:
        self.preparing.stop(attachment_id)
        with self.complaining():
            self.app.history.detach(attachment_id)
            self.undoable[self.chat_id].append(lambda: self.app.history.reattach(attachment_id))
            self._show_chips()

    def _show_chips(self) -> None:
        attachments = self.app.history.draft(self.chat_id).attachments
        self.query_one(Chips).show(attachments)
        for each in attachments:
            self.call_after_refresh(self.preparing.begin, self.chat_id, each)

    # --- what comes

    def answer_came(self, chat_id: int, news: News) -> None:
        """Draw what happens in a chat, if it is this one, or the one that comes."""
        if chat_id in (self.chat_id, self._coming) and self.is_mounted:
            self.call_later(self._draw, chat_id, self._n_read, news)

    async def _draw(self, chat_id: int, n_read: int, news: News) -> None:
        async with self._drawing:
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
        elif self._n_brought:
            told = replace(told, doing="reading pictures …")
        status.numbers = told


def _first() -> list[tuple[int, Preset]]:
    return list(enumerate(presets()[: len(PRESET_KEYS)]))
