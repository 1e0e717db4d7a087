"""A video asked about frame by frame: for a model that sees what is in a picture and never learnt what happens in time.

Frames that show the same are asked about once, and those that follow each other with one answer become one event.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gguf_vl.errors import UsageError
from gguf_vl.tasks import asking
from gguf_vl.tasks.task import Task
from gguf_vl.types import Finished, Picture, Progress, Request, Text, Timings, Usage

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.engine.client import Engine
    from gguf_vl.media.video import Clip
    from gguf_vl.runtime.models import Installed
    from gguf_vl.types import Event


def is_by_frame(task: Task, model: str) -> bool:
    """Whether the model of that name is asked about each frame by itself; they come `alone` then (`Frames`)."""
    return model in task.by_frame


@dataclass(frozen=True, slots=True)
class Span:
    """Frames that follow each other and look the same, from `start` to `end` seconds."""

    start: float
    end: float
    picture: Picture


class FrameByFrame:
    """A task that is put to each frame. Its `requests` are asked one after the other, and what comes of each is given
    to `take`; `result` is then what a model says that was asked about the whole.

    Raises UsageError where there is not just one clip, and what `asking.request` raises.
    """

    def __init__(
        self,
        task: Task,
        clips: Sequence[Clip],
        given: Mapping[str, str],
        installed: Installed,
        settings: Settings,
        *,
        extra: str = "",
        sampling: Mapping[str, Any] | None = None,
        system: str | None = None,
    ) -> None:
        if len(clips) != 1:
            raise UsageError(
                f"{installed.name} does the task {task.name} of one video, and {len(clips) or 'none'} is given.",
                "Give one video.",
            )
        named = [name for name, value in given.items() if value.strip()]
        wording = task.by_frame[installed.name][-1 if named else 0]
        of_one = replace(task, schema=None, wordings={installed.name: wording}, n_pictures=(1, 1))
        self._spans = _spans(clips[0])
        self.requests: tuple[Request, ...] = tuple(
            asking.request(
                of_one, [span.picture], given, installed, settings, extra=extra, sampling=sampling, system=system
            )
            for span in self._spans
        )
        self._answers: list[str] = []
        self._ends: list[Finished] = []
        self._answer = ""

    def take(self, event: Event) -> None:
        """An event of the request that is being answered."""
        if isinstance(event, Text):
            self._answer += event.text
        elif isinstance(event, Finished):
            self._answers.append(self._answer.strip())
            self._ends.append(event)
            self._answer = ""

    def result(self) -> tuple[Text, Finished]:
        """The events of the whole, as JSON: a list of objects with start, end (seconds) and event. It has ended as the
        first did of those that did not come to their ends.
        """
        found: list[dict[str, Any]] = []
        for span, answer in zip(self._spans, self._answers, strict=True):
            if found and found[-1]["event"] == answer:
                found[-1]["end"] = _rounded(span.end)
            else:
                found.append({"start": _rounded(span.start), "end": _rounded(span.end), "event": answer})
        return Text(json.dumps(found, ensure_ascii=False)), _together(self._ends)


async def answer(engine: Engine, asked: Request | FrameByFrame) -> AsyncGenerator[Event, None]:
    """The events of one answer, whichever way it is asked for: of one frame by frame how far each is, and then what
    comes of all. Raises as `Engine.generate`.
    """
    if isinstance(asked, Request):
        async with aclosing(engine.generate(asked)) as events:
            async for event in events:
                yield event
        return
    for request in asked.requests:
        async with aclosing(engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, Progress):
                    yield event
                else:
                    asked.take(event)
    for event in asked.result():
        yield event


def answer_blocking(
    engine: BlockingEngine, asked: Request | FrameByFrame, at_frame: Callable[[int, int], None] = lambda _n, _all: None
) -> Iterator[Event]:
    """The same for callers without an event loop. `at_frame` hears which frame is looked at, from 1, of how many."""
    if isinstance(asked, Request):
        yield from engine.generate(asked)
        return
    for number, request in enumerate(asked.requests, 1):
        at_frame(number, len(asked.requests))
        for event in engine.generate(request):
            asked.take(event)
    yield from asked.result()


def _spans(clip: Clip) -> list[Span]:
    ends = [*(step.time for step in clip.steps[1:]), max(clip.duration, clip.steps[-1].time)]
    spans: list[Span] = []
    for step, end in zip(clip.steps, ends, strict=True):
        if spans and spans[-1].picture.digest == step.picture.digest:
            spans[-1] = replace(spans[-1], end=end)
        else:
            spans.append(Span(step.time, end, step.picture))
    return spans


def _rounded(time: float) -> float:
    return round(time, 3)


def _together(ends: Sequence[Finished]) -> Finished:
    """One end for all, whose tokens and seconds are those of all."""
    times = [end.timings for end in ends]
    decoded = [(end.usage.completion_tokens - 1, end.timings.decode_tps) for end in ends if end.timings.decode_tps]
    seconds = sum(number / rate for number, rate in decoded if rate)
    return replace(
        next((end for end in ends if end.finish_reason != "stop" or end.stopped_by), ends[-1]),
        usage=Usage(
            sum(end.usage.prompt_tokens for end in ends),
            sum(end.usage.image_tokens for end in ends),
            sum(end.usage.completion_tokens for end in ends),
        ),
        timings=Timings(
            encode_s=sum(each.encode_s for each in times),
            prefill_s=sum(each.prefill_s for each in times),
            ttft_s=times[0].ttft_s,
            decode_tps=sum(number for number, _ in decoded) / seconds if seconds else None,
            queue_s=times[0].queue_s,
            tokens_reused=sum(each.tokens_reused for each in times),
        ),
    )
