"""The question being written: its words, its pictures and videos, and what a slash command does instead."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from textual import work
from textual.widgets import OptionList, Static

from gguf_vl.chat.frames import with_frames
from gguf_vl.chat.presets import presets
from gguf_vl.errors import ChatNotFound, GgufVlError, UsageError
from gguf_vl.tui.actions import BY_SLASH
from gguf_vl.tui.attaching import attach
from gguf_vl.tui.screens.tasks import TaskScreen
from gguf_vl.tui.widgets.chips import Chip, Chips
from gguf_vl.tui.widgets.prompt import MOST, Prompt, Suggestions
from gguf_vl.tui.widgets.transcript import Transcript

_URL = re.compile(r"https?://\S+", re.IGNORECASE)


class QuestionScreen(TaskScreen):
    """A chat in which a question is written. `drawing` is held while its turns are being put on the screen."""

    def __init__(self) -> None:
        super().__init__()
        self.drawing = asyncio.Lock()
        self._n_brought = 0  # pictures that are being read
        self._sends_then = False
        self._kept = ""  # the draft, as the history has it

    def tell_state(self) -> None:
        """Bring what is said of the chat up to date."""
        raise NotImplementedError

    @property
    def is_reading(self) -> bool:
        """Whether pictures are being read."""
        return self._n_brought > 0

    def turn_to(self, chat_id: int) -> None:
        """From one chat's prompt to the other's: nothing is typed between."""
        if chat_id == self.chat_id:
            return
        if self.editing:
            is_changed = self.query_one(Prompt).text != self.editing.text
            self.leave_edit(keep=is_changed)
            if is_changed:  # it is a draft then
                with suppress(ChatNotFound):
                    self.remember(self.begun_with)
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

    # --- words

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
            command = re.match(r"/(\w+)(?:\s|$)", text)
            if self._n_brought and (not command or command[1].casefold() == "video"):
                self._sends_then = True
                self.notify("That goes when what was dropped is read.")
            elif command:
                self._command(*re.split(r"\s+|$", text[1:], maxsplit=1))
            elif self.editing:
                self.check_asked(text)
                self.finish_edit(text)
            elif text or self.app.history.draft(self.chat_id).attachments:
                self.check_asked(message.text)
                await self._ask(message.text)

    async def _ask(self, text: str) -> None:
        app, chat_id = self.app, self.chat_id
        self.preparing.stop()  # what is computed is kept; the question itself goes before what is only prepared
        async with self.drawing:
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
        try:
            self._obey(name, words)
        except GgufVlError:
            prompt.write(f"/{name} {words}".strip())
            raise

    def _obey(self, name: str, words: str) -> None:
        prompt = self.query_one(Prompt)
        match name.casefold(), words:
            case "model", _ if words:
                self.app.switch_model(words)
            case "system", _ if words:
                self.app.history.set_system(self.chat_id, words)
                self.notify("The system prompt of this chat is set.")
            case "picture", _ if words:
                self.bring(words if _URL.fullmatch(words) else Path(os.path.expanduser(words.strip("'\""))))
            case "video", "":
                prompt.write("/video ")
            case "video", _:
                self._take_frames(words)
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

    def _take_frames(self, choice: str) -> None:
        """Have other frames taken of the question's videos, new or edited."""
        history, edited = self.app.history, self.editing
        attachments = edited.attachments if edited else history.draft(self.chat_id).attachments
        videos = [
            replace(each, name=with_frames(each.name, choice)) for each in attachments if each.seconds is not None
        ]
        if not videos:
            fix = "Ask about one that you drop." if edited else "Drop one first."
            raise UsageError("There is no video in what you are asking.", fix)
        if edited:
            renamed = {each.id: each for each in videos}
            self.editing = replace(edited, attachments=tuple(renamed.get(each.id, each) for each in attachments))
            self.query_one(Prompt).write(edited.text)
            self.notify(f"The edit is about {', '.join(each.name for each in videos)}.", markup=False)
            return
        for each in videos:
            history.name_attachment(each.id, each.name)
        self.preparing.stop()
        self._show_chips()

    def _show_chips(self) -> None:
        attachments = self.app.history.draft(self.chat_id).attachments
        self.query_one(Chips).show(attachments)
        for each in attachments:
            self.call_after_refresh(self.preparing.begin, self.chat_id, each)
