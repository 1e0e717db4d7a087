"""From a question or a task, with pictures, to a request; and from its end to an answer. Knows no event loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gguf_vl.api.answers import Answer
from gguf_vl.api.pictures import PictureSource, to_picture
from gguf_vl.api.settings import checked, settings_of
from gguf_vl.config import Settings
from gguf_vl.errors import UsageError
from gguf_vl.hardware.machine import probe
from gguf_vl.media.resize import limits_for
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.tasks import asking, results
from gguf_vl.tasks.task import Task, find, free
from gguf_vl.types import Finished, Message, Picture, Request

_NOT_OF_SAMPLING = ("schema", "thinking_budget", "system", "detail")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, the pictures that its answer is about, and the task that says how it is read."""

    request: Request
    pictures: tuple[Picture, ...]
    task: Task

    def answer(self, text: str, thinking: str, end: Finished) -> Answer:
        """The whole of an answer. Raises `CutOff` and `AnswerInvalid` for one that was to be JSON and is not."""
        read = results.Result(text)
        if end.finish_reason != "cancelled":  # by the caller, who knows
            read = results.read(self.task, text, end, self.pictures)
        return Answer(
            text=read.text,
            finish_reason=end.finish_reason,
            usage=end.usage,
            timings=end.timings,
            boxes=read.boxes,
            points=read.points,
            fields=read.fields,
            rows=read.rows,
            thinking=thinking,
            dropped_messages=end.dropped_messages,
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A model that loads when its engine starts. `notes` are lines about how it was chosen and loaded."""

    installed: Installed
    engine: PlannedEngine
    settings: Settings
    notes: list[str] = field(default_factory=list)

    def question(
        self,
        sources: Sequence[PictureSource],
        question: str,
        how: Mapping[str, Any],
        *,
        before: Sequence[Message] = (),
    ) -> Asked:
        """A question behind a conversation. Blocking: pictures are decoded. Raises `InvalidPicture`, `UsageError`."""
        asked = checked(how)
        limits = limits_for(asked.get("detail", self.settings.detail), self.engine.settings.limits)
        pictures = tuple(to_picture(source, limits) for source in sources)
        earlier = [part for message in before for part in message.content if isinstance(part, Picture)]
        found = free(asked.get("schema"))
        request = asking.request(
            found,
            (*earlier, *pictures),  # what is recommended for pictures holds behind them too
            {},
            self.installed,
            self.settings,
            extra=question,
            sampling={name: value for name, value in asked.items() if name not in _NOT_OF_SAMPLING},
            system=asked.get("system"),
        )
        *system, _ = request.messages
        request = replace(
            request,
            messages=(*system, *before, Message("user", (*pictures, question))),
            drop_oldest=bool(before),
            thinking_budget=asked.get("thinking_budget"),
        )
        return Asked(request, pictures or tuple(earlier[-1:]), found)

    def task(self, name: str, sources: Sequence[PictureSource], parameters: Mapping[str, str]) -> Asked:
        """A task. Blocking. Raises `InvalidPicture`, and `UsageError` for what is no task or not what it takes."""
        found = find(name)
        asking.check(found, len(sources), parameters)
        limits = asking.limits(found, self.settings, self.engine.settings.limits)
        pictures = tuple(to_picture(source, limits) for source in sources)
        request = asking.request(found, pictures, parameters, self.installed, self.settings)
        return Asked(request, pictures, found)


def plan(
    model: str | os.PathLike[str] | None, given: Mapping[str, Any], on_progress: Callable[[float], None] | None
) -> Planned:
    """Find the model and plan it for this machine. Blocking. Raises what `plan_chosen` raises."""
    settings = settings_of(model, given)
    installed, planned = plan_chosen(settings, probe())
    notes = [] if settings.model else [f"Using {installed.name} ({installed.why})."]
    if installed.local.receipt and installed.local.receipt.is_damaged:
        notes.append(f"{installed.name} was found damaged: gguf-vl verify {installed.name}")
    notes += [f"To fit this machine, {line}." for line in planned.plan.gave_way]
    engine = PlannedEngine(
        installed,
        planned,
        on_progress=on_progress,
        tell=notes.append,
        prove="first" if settings.proof else "never",
        disk_cache=settings.disk_cache,
        idle_s=settings.idle_unload or None,
    )
    return Planned(installed, engine, settings, notes)


def split(asked: Sequence[PictureSource], question: str | None) -> tuple[Sequence[PictureSource], str]:
    """(pictures, question) of what was given: without a `question`, the last is it. Raises `UsageError` for none."""
    if question is not None:
        return asked, question
    last = asked[-1] if asked else None
    if not isinstance(last, str):
        raise UsageError("There is no question.", 'Give it behind the pictures: ask("cat.png", "What is this?")')
    if len(asked) == 1 and os.path.isfile(last):
        raise UsageError(f"What do you want to know about {last}?", f'Add a question: ask("{last}", "What is this?")')
    return asked[:-1], last
