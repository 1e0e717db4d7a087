"""Asks `pocket` for tasks, as the command line does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gguf_vl.config import Settings, load_settings
from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.hardware.machine import probe
from gguf_vl.media.pictures import load_picture
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.models import Installed
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.tasks import asking, results
from gguf_vl.tasks.by_frame import FrameByFrame, answer_blocking
from gguf_vl.tasks.question import Question
from gguf_vl.tasks.results import Result
from gguf_vl.tasks.samples import sample_of
from gguf_vl.tasks.task import Task, find
from gguf_vl.types import Finished, Picture, Request, Text


@dataclass(frozen=True)
class Pocket:
    """pocket, loaded."""

    engine: BlockingEngine
    installed: Installed
    settings: Settings

    def picture(self, task: Task | str, data: bytes) -> Picture:
        """A picture as it is loaded for a task."""
        task = find(task) if isinstance(task, str) else task
        return load_picture(data, asking.limits(task, self.settings, self.engine.settings.limits))

    def do(
        self, task: Task | str, *data: bytes, extra: str = "", max_tokens: int | None = None, **given: str
    ) -> Result:
        """What comes of a task."""
        task = find(task) if isinstance(task, str) else task
        pictures = [self.picture(task, each) for each in data]
        sampling = {} if max_tokens is None else {"max_tokens": max_tokens}
        request = asking.request(task, pictures, given, self.installed, self.settings, extra=extra, sampling=sampling)
        return self._read(task, request, pictures)

    def do_sample(self, task: Task) -> Result:
        """What comes of a task on its own sample."""
        sample = sample_of(task)
        question = Question(task, self.installed, self.settings, sample.given)
        shown = sample.show(question.limits(self.engine.settings.limits))
        return self._read(task, question.asked(shown), shown.pictures)

    def _read(self, task: Task, asked: Request | FrameByFrame, pictures: Sequence[Picture]) -> Result:
        answer = ""
        for event in answer_blocking(self.engine, asked):
            if isinstance(event, Text):
                answer += event.text
            elif isinstance(event, Finished):
                end = event
        return results.read(task, answer, end, pictures)


@contextmanager
def loaded_pocket() -> Iterator[Pocket]:
    """pocket, for as long as it is needed."""
    settings = load_settings({"model": "pocket"}, file=None)
    installed, planned = plan_chosen(settings, probe())
    with BlockingEngine(PlannedEngine(installed, planned, prove="never")) as engine:
        engine.start()
        yield Pocket(engine, installed, settings)
