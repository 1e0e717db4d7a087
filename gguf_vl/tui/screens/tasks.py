"""Tasks as questions: put into the prompt of a chat, and remembered with what is typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from io import StringIO

from textual.markup import escape

from gguf_vl.chat.presets import Preset, presets, question, read, task_of, tasks
from gguf_vl.errors import UsageError
from gguf_vl.tasks import asking
from gguf_vl.tasks.task import Task, find
from gguf_vl.tui.screens.turns import TurnScreen
from gguf_vl.tui.widgets.prompt import Prompt

_PARAMETER = re.compile(r"\s*([A-Za-z_]\w*)=")


class TaskScreen(TurnScreen):
    """A chat in which questions begin with tasks."""

    def watch_begun_with(self, begun_with: str | None) -> None:
        """Have it seen below the question."""
        self.query_one(Prompt).border_subtitle = escape(f"/task {begun_with}") if begun_with else None

    def action_preset(self, number: int) -> None:
        """Have what is often asked in the prompt, with what is written there already."""
        if number < len(presets()):
            self.begin_preset(presets()[number])

    def action_task(self, name: str) -> None:
        """The same with any task."""
        self.begin_task(name)

    def begin_preset(self, preset: Preset, words: str = "") -> None:
        """Begin with a preset: the person's own task of that name, if there is one."""
        self._put(task_of(preset.task.name) or preset.task, words, {})

    def begin_task(self, name: str, words: str = "") -> None:
        """Begin with the task of that name, with parameters at the beginning of the words. Raises `UsageError` where
        there is none, or it has no such parameter, and names the nearest.
        """
        found, trouble = tasks()
        if trouble:
            self.notify(trouble, severity="warning", timeout=10, markup=False)
        task = found.get(name) or found.get(name.casefold()) or find(name)
        self._put(task, *parameters_of(task, words))

    def _put(self, task: Task, words: str, given: Mapping[str, str]) -> None:
        """Words that are written already are what the task asks for, where that is one thing; else they stay behind."""
        if self.editing and self.editing.role == "assistant":
            what = "A task is for a question, and an answer is being edited."
            raise UsageError(what, "Send the edit, or leave it with Esc, first.")
        prompt, model = self.query_one(Prompt), self.app.model.name
        begun = question(task, model, "\n\n".join(filter(None, (words, prompt.text.strip()))), given)
        if model not in task.by_frame and (line := asking.beyond(task, model, given)):
            self.notify(line, severity="warning", timeout=8, markup=False)
        prompt.write(begun.text, begun.selected)
        self.remember(begun.begun_with)

    def remember(self, begun_with: str | None) -> None:
        """Keep what the question begins with, as long as it is the same; with the chat, unless it is an edit."""
        self.begun_with = begun_with
        if self.chat_id >= 0 and not self.editing:
            self.app.history.set_preset(self.chat_id, begun_with)

    def check_asked(self, text: str) -> None:
        """Raise `UsageError` for what is in the prompt, new or edited, where its task lacks what must be said, or is
        about another number of pictures. Those of the chat so far count where the question brings too few.
        """
        history, edited = self.app.history, self.editing
        if edited:
            brought, before = edited.attachments, history.path(edited.id)[:-1]
        else:
            brought, before = history.draft(self.chat_id).attachments, history.turns(self.chat_id)
        try:
            task = task_of(self.begun_with)
        except UsageError:
            return  # the answer tells it
        if task and (asked := read(task, text, self.begun_with or "")):
            there = [*brought, *(each for turn in before for each in turn.attachments)]
            n_pictures = max(len(brought), min(len(there), task.n_pictures[0]))
            has_videos = any(each.seconds is not None for each in there)
            asking.check(task, None if has_videos else n_pictures, asked[0])


def parameters_of(task: Task, words: str) -> tuple[str, Mapping[str, str]]:
    """(the words behind them, parameters) of `kind=point thing='red circle' in French`, quoted as for a shell. Names
    that are like none of the task's are words. Raises `UsageError` for a quotation that does not end.
    """
    known = {each.name.casefold(): each.name for each in task.parameters}
    lexer = shlex.shlex(stream := StringIO(words), posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    given, end = dict[str, str](), 0
    while (found := _PARAMETER.match(words, end)) and get_close_matches(name := found[1].casefold(), known, n=1):
        try:
            pair = lexer.get_token() or ""
        except ValueError as error:
            raise UsageError(f"The quotation in {words[end:].strip()} does not end.", "Close it.") from error
        given[known.get(name, name)] = pair.partition("=")[2]
        end = stream.tell()
    return words[end:].strip(), given
