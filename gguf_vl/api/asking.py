"""From a question or a task, with pictures, to a request; and from its end to an answer. Knows no event loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gguf_vl.api.answers import Answer
from gguf_vl.api.pictures import PictureSource, to_source
from gguf_vl.api.settings import checked, settings_of
from gguf_vl.config import Settings
from gguf_vl.errors import UsageError
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.tasks import results
from gguf_vl.tasks.asking import check, settle
from gguf_vl.tasks.by_frame import FrameByFrame
from gguf_vl.tasks.question import Question
from gguf_vl.tasks.task import Task, find, free
from gguf_vl.types import Finished, Message, Picture, Request

_NOT_OF_SAMPLING = ("schema", "thinking_budget", "system", "detail", "frames")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a program wants: a question in its own `words`, or a task by its name with parameters and added words. `how`
    are `AskSettings`.
    """

    words: str = ""
    how: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, or one for each frame of a video; the pictures that its answer is about, the task that says how it is
    read, and `notes` of what was left out.
    """

    request: Request | FrameByFrame
    pictures: tuple[Picture, ...]
    task: Task
    notes: tuple[str, ...] = ()

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
            notes=self.notes,
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A model that loads when its engine starts. `notes` are lines about how it was chosen and loaded."""

    installed: Installed
    engine: PlannedEngine
    settings: Settings
    notes: list[str] = field(default_factory=list)

    def prepare(self, asking: Asking, sources: Sequence[PictureSource], before: Sequence[Message] = ()) -> Asked:
        """What is asked, behind a conversation or none, about what the sources show. Blocking: they are decoded.

        Raises `InvalidPicture`, and `UsageError` for what is no task or not what it takes.
        """
        from gguf_vl.media.shown import may_be_several

        how = checked(asking.how)
        schema = how.get("schema")
        task = free(schema) if asking.task is None else find(asking.task)
        if asking.task is not None:
            task = task if schema is None else task.held_to(schema)
            n_pictures = None if any(map(may_be_several, sources)) else len(sources)
            check(task, n_pictures, settle(task, asking.given, asking.words)[0])
        question = Question(
            task,
            self.installed,
            self.settings,
            asking.given,
            asking.words,
            {name: value for name, value in how.items() if name not in _NOT_OF_SAMPLING},
            how.get("system"),
            how.get("detail"),
        )
        engine = self.engine.settings
        read = [to_source(each, question.limits(engine.limits)) for each in sources]
        shown = question.show(read, engine.limits, engine.n_ctx, how.get("frames"), before=before)
        if question.is_by_frame:
            return Asked(question.asked(shown), shown.pictures, task, shown.notes)
        earlier = [part for message in before for part in message.content if isinstance(part, Picture)]
        request = question.request((*earlier, *shown.content))  # what is recommended for pictures holds behind them too
        *system, said = request.messages
        request = replace(
            request,
            messages=(*system, *before, replace(said, content=said.content[len(earlier) :])),
            drop_oldest=bool(before),
            thinking_budget=how.get("thinking_budget"),
        )
        return Asked(request, shown.pictures or tuple(earlier[-1:]), task, shown.notes)


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


def for_each(question: str, task: str | None, parameters: Mapping[str, str] | None, how: Mapping[str, Any]) -> Asking:
    """What a batch asks about each picture. Raises `UsageError` for what no picture could be asked."""
    checked(how)
    if task is not None:
        find(task)
    elif not question.strip() or parameters:
        raise UsageError("A batch has neither a question nor a task.", 'Give one: batch(pictures, "What is this?")')
    return Asking(question, how, task, parameters or {})


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
