"""Tasks as questions in a chat: all of them by name, and those of `presets.toml` by a key and a word of their own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gguf_vl.errors import UsageError
from gguf_vl.tasks import asking
from gguf_vl.tasks.task import PLACEHOLDER, Task, load, shipped

_MARK = "\0"


@dataclass(frozen=True, slots=True)
class Preset:
    """A task that is often begun with.

    `name` is its short title, `title` says in full what it does, `hint` what comes of it, `key` the letter that picks
    it. `select` is what it is asked for until a person says what, in the task's own words for it.
    """

    key: str
    slash: str
    name: str
    title: str
    hint: str
    task_name: str
    select: str = ""

    @property
    def task(self) -> Task:
        """What is asked for. All tasks are read for it: not before the first screen is drawn."""
        return shipped()[self.task_name]


@dataclass(frozen=True, slots=True)
class Question:
    """What a person begins with: the `text`, and where in it is what they will want to change, [start, end).

    `begun_with` is what the question remembers: the task, and the parameters that the text does not show, as `/task`
    takes them.
    """

    text: str
    selected: tuple[int, int]
    begun_with: str


@cache
def presets() -> tuple[Preset, ...]:
    """All of them, in the order to show them in."""
    import tomllib

    text = (Path(__file__).parent / "presets.toml").read_text(encoding="utf-8")
    return tuple(_preset(**each) for each in tomllib.loads(text)["preset"])


def _preset(*, task: str, **more: str) -> Preset:
    return Preset(task_name=task, **more)


def tasks() -> tuple[Mapping[str, Task], str]:
    """(every task by name, what is wrong with the person's own): where something is, the shipped ones are there."""
    try:
        return load(), ""
    except UsageError as error:
        return shipped(), f"{error.what} {error.fix}"


def task_of(begun_with: str | None) -> Task | None:
    """The task that a question remembers; None where there is no such task (any more).

    Raises `UsageError` where it may be the person's own, and the file of those is broken.
    """
    if not begun_with:
        return None
    name, _ = _remembered(begun_with)
    found, trouble = tasks()
    if trouble and name not in found:
        load()
    return found.get(name)


def _remembered(begun_with: str) -> tuple[str, Mapping[str, str]]:
    """(name of the task, parameters)."""
    try:
        name, *pairs = shlex.split(begun_with)
    except ValueError:  # an import may say anything
        return begun_with, {}
    return name, {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def question(task: Task, model: str, words: str = "", given: Mapping[str, str] | None = None) -> Question:
    """A task as it is asked of the model of that name, with these parameters, and a person's own words in it or behind
    it.

    Selected is the first parameter that neither gives. One that must be given stands there as `{thing}`, if no preset
    says something in its place. Raises `UsageError` for a parameter that the task has not.
    """
    given, extra = asking.settle(task, given or {}, words)
    asking.check(task, None, {each.name: each.name for each in task.parameters if each.default is None} | dict(given))
    wording = task.wordings.get(model, task.prompt)
    shown = PLACEHOLDER.findall(wording)
    unshown = (f"{name}={shlex.quote(value)}" for name, value in given.items() if name not in shown)
    begun_with = " ".join((task.name, *unshown))
    open_ones = {each.name: each for each in task.parameters if each.name not in given}
    first = next((name for name in shown if name in open_ones), None)
    values = {name: each.default or _stand_in(task, name, model) for name, each in open_ones.items()}
    marked = values | ({first: _MARK} if first else {})
    text = asking.prompt(task, {**given, **marked}, model, extra=extra).strip()
    if first is None:
        return Question(text, (len(text), len(text)), begun_with)
    start = text.find(_MARK)
    return Question(text.replace(_MARK, values[first]), (start, start + len(values[first])), begun_with)


def _stand_in(task: Task, name: str, model: str) -> str:
    said = next((each.select for each in presets() if each.task == task), "")
    return said if said and model not in task.wordings else f"{{{name}}}"


def read(task: Task, text: str, begun_with: str = "") -> tuple[Mapping[str, str], str] | None:
    """(parameters, words behind it) of a question in the task's words for any model; None where they were changed.
    What the text does not show of them is what the question remembers.
    """
    for wording in (task.prompt, *task.wordings.values()):
        if found := _pattern(wording.strip()).fullmatch(text.strip()):
            given = {**_remembered(begun_with)[1], **found.groupdict()}
            unsaid = {each.name: (each.default, f"{{{each.name}}}") for each in task.parameters}
            said = {name: value for name, value in given.items() if value not in unsaid.get(name, ())}
            return said, found[found.re.groups] or ""
    return None


@cache
def _pattern(wording: str) -> re.Pattern[str]:
    """What a question in these words looks like, whatever its parameters are and is written behind it."""
    parts, seen = PLACEHOLDER.split(wording), set[str]()
    pattern = ""
    for at, part in enumerate(parts):
        if at % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>.+?)"
            seen.add(part)
    return re.compile(rf"{pattern}(?:\n+(.*))?", re.DOTALL)
