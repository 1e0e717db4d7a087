"""What can be done with the turns of a chat: answered again, continued, edited, copied, quoted, deleted, compared."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from textual import work
from textual.reactive import var
from textual.screen import Screen

from gguf_vl.chat.turns import Turn
from gguf_vl.errors import GgufVlError
from gguf_vl.tui.attaching import Preparing
from gguf_vl.tui.widgets.message import TurnView
from gguf_vl.tui.widgets.picture import PictureView
from gguf_vl.tui.widgets.prompt import Prompt
from gguf_vl.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from gguf_vl.tui.app import GgufVlApp


class TurnScreen(Screen[None]):
    """A chat's turns. Each action is for the chosen one, the one with the focus, else the last.

    `chat_id` is the chat that is shown, -1 before there is one; `editing` the turn whose new text is in the prompt,
    with the attachments that it is to have; `begun_with` the task of the question in the prompt, new or edited: see
    `Turn.task`; `undoable` takes a chat's deletions back, the last one first.
    """

    app: GgufVlApp
    preparing: Preparing
    begun_with: var[str | None] = var(None, init=False)

    def __init__(self) -> None:
        super().__init__()
        self.chat_id = -1
        self.editing: Turn | None = None
        self.undoable: defaultdict[int, list[Callable[[], None]]] = defaultdict(list)

    def open(self, chat_id: int, turn_id: int | None = None) -> None:
        """Show a chat as the history has it."""
        raise NotImplementedError

    def complain(self, error: GgufVlError) -> None:
        """Say what went wrong, and what to do."""
        self.app.complain(error)

    @contextmanager
    def complaining(self) -> Iterator[None]:
        """Say what goes wrong inside; a full disk must not end the app."""
        try:
            yield
        except GgufVlError as error:
            self.complain(error)

    # --- which turn

    @property
    def chosen(self) -> TurnView | None:
        """The turn that is meant."""
        around = self.focused.ancestors_with_self if self.focused else ()
        found = next((each for each in around if isinstance(each, TurnView)), None)
        views = self.query_one(Transcript).views
        return found or (views[-1] if views else None)

    def _answer_meant(self) -> Turn | None:
        """The chosen answer, or that to the chosen question."""
        chosen = self.chosen
        if chosen is None or chosen.turn.role == "assistant":
            return chosen.turn if chosen else None
        turns = self.app.history.turns(self.chat_id)
        return next((turn for turn in turns if turn.parent_id == chosen.turn.id), None)

    def action_to_messages(self) -> None:
        """Choose the last turn."""
        if views := self.query_one(Transcript).views:
            views[-1].focus()

    def action_move(self, step: int) -> None:
        """Choose the turn before or behind; behind the last comes the prompt."""
        transcript, chosen = self.query_one(Transcript), self.chosen
        views = transcript.views
        if chosen is None:
            return
        place = views.index(chosen) + step
        if place >= len(views):
            self.query_one(Prompt).focus()
        elif place < 0:
            self.run_worker(transcript.show_earlier())
        else:
            views[place].focus()
            transcript.scroll_to_widget(views[place], animate=False)

    # --- answering

    def action_regenerate(self) -> None:
        """Answer the question again; the answer before stays as a branch."""
        chosen = self.chosen
        if chosen is None:
            return
        turn = chosen.turn
        self._answer(turn if turn.role == "user" else self.app.history.turn(turn.parent_id or -1))

    def action_go_on(self) -> None:
        """Continue an answer that was stopped or cut off."""
        if turn := self._answer_meant():
            self._answer(turn)
        elif self.chosen:
            self._answer(self.chosen.turn)  # a question that nobody answered

    def on_turn_view_go_on_asked(self, message: TurnView.GoOnAsked) -> None:
        """Continue, or answer again."""
        turn = message.turn
        with self.complaining():
            self._answer(self.app.history.turn(turn.parent_id or -1) if message.anew else turn)

    def _answer(self, turn: Turn) -> None:
        if self.app.answers.is_running(self.chat_id):
            self.notify("An answer is being written. Esc stops it.", severity="warning")
        else:
            self.app.answers.begin(turn)
            self.query_one(Prompt).focus()

    # --- editing

    def action_edit(self) -> None:
        """Have the turn's text in the prompt; sending it makes a branch."""
        prompt, chosen = self.query_one(Prompt), self.chosen
        if chosen is None:
            return
        if prompt.text:
            self.notify("Send what you are writing first, or clear it: it would be lost.", severity="warning")
            return
        if chosen.turn.state == "writing":
            self.notify("It is still being written. Esc stops it.", severity="warning")
            return
        self.editing = chosen.turn
        prompt.border_title = "Editing · Enter keeps the old one as a branch · Esc leaves it"
        prompt.add_class("editing")
        prompt.write(chosen.turn.text)
        self.begun_with = chosen.turn.task if chosen.turn.role == "user" else None

    def leave_edit(self, *, keep: bool = False) -> None:
        """Leave the turn as it is; with `keep` what was written stays in the prompt."""
        prompt = self.query_one(Prompt)
        self.editing = None
        prompt.border_title = None
        prompt.remove_class("editing")
        if not keep:
            prompt.text = ""
            self.begun_with = None

    def finish_edit(self, text: str) -> None:
        """Make the branch, and have a question answered."""
        before, history = self.editing, self.app.history
        if not before:
            return
        task = self.begun_with if before.role == "user" else before.task
        old = history.turn(before.id)
        if not text or (text, task, before.attachments) == (old.text, old.task, old.attachments):
            self.leave_edit()
            return
        turn = history.edit(before.id, text, before.attachments, task=task)
        self.leave_edit()
        if turn.role == "user":
            history.set_preset(self.chat_id, task)
            self.app.answers.begin(turn)
        self.open(self.chat_id)

    # --- branches

    def action_branch(self, step: int) -> None:
        """To the branch before or behind."""
        if self.chosen:
            self._to_branch(self.chosen.turn, step)

    def on_turn_view_branch_asked(self, message: TurnView.BranchAsked) -> None:
        """An arrow was clicked."""
        with self.complaining():
            self._to_branch(message.turn, message.step)

    def _to_branch(self, turn: Turn, step: int) -> None:
        branches = self.app.history.siblings(turn.id)
        place = branches.index(turn.id) + step
        if 0 <= place < len(branches):
            self.app.history.choose(branches[place])
            self.open(self.chat_id, branches[place])

    # --- taking out

    def action_copy(self) -> None:
        """Copy the turn's text."""
        if self.chosen:
            self.copy(self.chosen.turn.text, "The message")

    def action_copy_code(self) -> None:
        """Copy the next block of code in it."""
        code = self.chosen.next_code() if self.chosen else None
        if code is None:
            self.notify("There is no block of code in this message.", severity="warning")
        else:
            self.copy(code, "The code")

    @work
    async def copy(self, text: str, what: str) -> None:
        """Put a text on the clipboard: through the terminal, which reaches the right one over SSH, and by program."""
        from gguf_vl.media.clipboard import copy

        self.app.copy_to_clipboard(text)
        await asyncio.to_thread(copy, text)
        self.notify(f"{what} is on the clipboard ({len(text):,} characters).")

    def action_quote(self) -> None:
        """Put the turn into the prompt as a quotation."""
        if self.chosen:
            prompt = self.query_one(Prompt)
            quoted = "\n".join(f"> {line}" for line in self.chosen.turn.text.splitlines())
            prompt.write(f"{prompt.text}\n{quoted}\n\n".lstrip("\n"))

    def action_look(self) -> None:
        """See a picture of the turn large: with its boxes, if it has any."""
        if self.chosen and (pictures := list(self.chosen.query(PictureView))):
            pictures[-1].action_open()

    def action_thoughts(self) -> None:
        """Unfold the thoughts, or fold them."""
        if self.chosen:
            self.chosen.show_thoughts()

    # --- deleting

    async def action_delete(self) -> None:
        """Delete the turn and all below it, with what is being written there; `u` takes that back."""
        chosen = self.chosen
        if chosen is None:
            return
        history, turn_id = self.app.history, chosen.turn.id
        below = {turn_id}
        for turn in history.tree(self.chat_id):
            if turn.parent_id in below:
                below.add(turn.id)
        await self.app.answers.abandon(self.chat_id, below)
        history.delete_turn(turn_id)
        self.undoable[self.chat_id].append(lambda: history.restore_turn(turn_id))
        self.notify("Deleted, with what was below. u takes it back.")
        self.open(self.chat_id)

    def action_undo(self) -> None:
        """Take the last deletion back."""
        if self.undoable[self.chat_id]:
            self.undoable[self.chat_id][-1]()
            self.undoable[self.chat_id].pop()
            self.open(self.chat_id)
