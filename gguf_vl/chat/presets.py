"""Tasks as questions to begin with, in a chat: `presets.toml` names them, the tasks say the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_vl.tasks.task import PLACEHOLDER, Task, shipped

if TYPE_CHECKING:
    from gguf_vl.types import Detail


@dataclass(frozen=True, slots=True)
class Preset:
    """A question to begin with.

    `name` is its short title and what a chat remembers it by, `title` says in full what it does, `hint` what comes of
    it, `key` the letter that picks it. `select` is the part of `prompt` that a person will want to change, empty where
    there is none; `task` is what it asks for, `is_reworded` whether in other words than the task's.
    """

    key: str
    slash: str
    name: str
    title: str
    hint: str
    task: Task
    prompt: str
    select: str = ""
    is_reworded: bool = False

    @property
    def sampling(self) -> Mapping[str, Any]:
        """The task's: fields of `Sampling`."""
        return self.task.sampling

    @property
    def detail(self) -> Detail | None:
        """The task's; None leaves it to the settings."""
        return self.task.detail

    @property
    def selected(self) -> tuple[int, int]:
        """Where `select` is in `prompt`, [start, end); at its end where there is none."""
        start = self.prompt.find(self.select) if self.select else len(self.prompt)
        return start, start + len(self.select)


@cache
def presets() -> tuple[Preset, ...]:
    """All of them, in the order to show them in."""
    import tomllib

    text = (Path(__file__).parent / "presets.toml").read_text(encoding="utf-8")
    return tuple(_preset(**each) for each in tomllib.loads(text)["preset"])


def _preset(*, task: str, prompt: str = "", select: str = "", **more: str) -> Preset:
    from gguf_vl.tasks import asking

    found = shipped()[task]
    given = {each.name: select for each in found.parameters if each.default is None}
    asked = prompt or asking.prompt(found, given, "")
    return Preset(task=found, prompt=asked, select=select, is_reworded=bool(prompt), **more)


def preset(name: str | None) -> Preset | None:
    """The preset of that name; None for one that is not there (any more)."""
    return next((each for each in presets() if each.name == name), None)


def as_task(text: str) -> tuple[Task, Mapping[str, str]] | None:
    """(task, parameters) of a question in a preset's words, where no more than its parameters was changed."""
    for pattern, task in _patterns():
        if found := pattern.fullmatch(text.strip()):
            return task, found.groupdict()
    return None


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], Task], ...]:
    """What the questions of presets in their tasks' own words look like, whatever the parameters are."""
    tasks = [each.task for each in presets() if not each.is_reworded]
    return tuple((re.compile(_pattern(task.prompt), re.DOTALL), task) for task in tasks)


def _pattern(prompt: str) -> str:
    parts = PLACEHOLDER.split(prompt)
    return "".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
