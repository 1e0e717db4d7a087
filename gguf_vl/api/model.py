"""`load`: the library without asyncio. It works in scripts, threads, and where an event loop runs already (Jupyter)."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from types import TracebackType
from typing import Self, Unpack

from gguf_vl.api.answers import Answer, BatchResult
from gguf_vl.api.asking import Asking, for_each, plan
from gguf_vl.api.async_model import AsyncChat, AsyncModel, AsyncStream, in_flight, one_of_batch, started
from gguf_vl.api.pictures import PictureSource
from gguf_vl.api.portal import Portal, Work, end_all
from gguf_vl.api.settings import AskSettings, LoadSettings
from gguf_vl.media.boxes import Box
from gguf_vl.media.choice import Frames
from gguf_vl.tasks.batch.turns import Turns
from gguf_vl.types import Message


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    on_progress: Callable[[float], None] | None = None,
    **settings: Unpack[LoadSettings],
) -> Model:
    """Load a model into a process of its own: `with load("2b") as model`, or `model = load("2b")` and `model.close()`.

    `model` is a name (`2b`, `8b:q8_0`, `pocket`) or the path of a GGUF file; without one it is the person's setting,
    else the largest that is here and fits, else `pocket`. `on_progress` gets the loaded fraction, 0 to 1, on another
    thread. Nothing is fetched: `gguf-vl pull 2b` does that.

    Raises `ModelNotFound`, `InvalidModelFile`, `DoesNotFit` when no memory is left for it, and `UsageError` for a
    setting that cannot be.
    """
    planned = plan(model, settings, on_progress)
    portal = Portal()
    try:
        return Model(portal.call(started(planned)), portal)
    except BaseException:
        portal.close(planned.engine.close)
        raise


class Model:
    """A model in memory. `load` makes one; it ends with its `with` block, `close`, or the program.

    May be used by several threads at once: the engine answers them together.
    """

    def __init__(self, model: AsyncModel, portal: Portal) -> None:
        self._model = model
        self._portal = portal
        self._end = weakref.finalize(self, portal.close, model.close)  # also at the program's end

    @property
    def name(self) -> str:
        """What the model is called here."""
        return self._model.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person may want to know of how the model was chosen and loaded, in lines."""
        return self._model.notes

    def ask(self, *asked: PictureSource, question: str | None = None, **how: Unpack[AskSettings]) -> Answer:
        """The answer to a question about pictures, or none: `ask("a.png", "b.png", "Which is larger?")`.

        The question is the last argument, unless it is given by name.

        Raises `InvalidPicture`, `UsageError` for a setting that cannot be, `DoesNotFit` for what is longer than the
        context, and with a schema `CutOff` for an answer that did not come to its end. After `WorkerDied` the next
        question loads the model again.
        """
        return self._portal.call(self._model.ask(*asked, question=question, **how))

    def stream(self, *asked: PictureSource, question: str | None = None, **how: Unpack[AskSettings]) -> Stream:
        """The same, as it is written. Nothing is asked before it is read."""
        return Stream(self, self._portal, self._model.stream(*asked, question=question, **how))

    def locate(self, picture: PictureSource, what: str) -> tuple[Box, ...]:
        """Where that ("the red circle") is in the picture, in pixels of the original, upright; empty where it is not.

        Raises as `ask` does.
        """
        return self._portal.call(self._model.locate(picture, what))

    def run(self, task: str, /, *pictures: PictureSource, frames: Frames | None = None, **parameters: str) -> Answer:
        """What a task makes of pictures: `run("receipt", "receipt.jpg").fields`. `gguf-vl tasks list` shows them.

        `frames` says which frames of a video are shown. Raises as `ask` does, and `UsageError` for what is no task, or
        pictures and parameters that it does not take.
        """
        return self._portal.call(self._model.run(task, *pictures, frames=frames, **parameters))

    def chat(self, **how: Unpack[AskSettings]) -> Chat:
        """A new conversation. The settings are those of its questions that do not say otherwise."""
        return Chat(self, self._portal, self._model.chat(**how))

    def batch(
        self,
        pictures: Iterable[PictureSource],
        question: str = "",
        *,
        task: str | None = None,
        parameters: Mapping[str, str] | None = None,
        **how: Unpack[AskSettings],
    ) -> Iterator[BatchResult]:
        """The same question about each of many pictures, several at a time; the results as they come.

        With a `task` it is that one, with its `parameters`, and the question is words that are added to it. `pictures`
        may be a generator, and is read as far as needed. A document or a video is one of them, as in `ask`. A picture
        that cannot be read costs its own result only; one under which the model's process died is asked about once
        more, alone. Leaving early cancels the rest. Raises `UsageError` for a setting that cannot be, and for what is
        no task.
        """
        return self._batch(enumerate(pictures), for_each(question, task, parameters, how))

    def _batch(self, waiting: Iterator[tuple[int, PictureSource]], asking: Asking) -> Iterator[BatchResult]:
        turns = Turns()
        running: list[Work[BatchResult]] = []
        try:
            while True:
                while len(running) < in_flight(self._model) and (following := next(waiting, None)):
                    running.append(self._portal.begin(one_of_batch(self._model, *following, asking, turns)))
                if not running:
                    return
                wait([work.future for work in running], return_when=FIRST_COMPLETED)
                done = [work for work in running if work.future.done()]
                running = [work for work in running if work not in done]
                for work in done:
                    yield work.future.result()
        finally:
            end_all(running)

    def close(self) -> None:
        """End the model's process and give its memory back. Questions under way get `EngineError`."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if self._end.alive:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<Model {self.name}{'' if self._end.alive else ', closed'}>"


class Stream:
    """An answer as it is written: iterate for the pieces of its text, then look at `answer`.

    Leaving early and closing, or forgetting, the stream cancels what is left; closed, it has the `answer` so far.
    """

    def __init__(self, model: Model, portal: Portal, stream: AsyncStream) -> None:
        self._model = model  # one that was forgotten ends
        self._portal = portal
        self._stream = stream

    @property
    def text(self) -> str:
        """What has come so far."""
        return self._stream.text

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises `UsageError` while it has not come to its end."""
        return self._stream.answer

    def read(self) -> Answer:
        """Read what is left, and give the whole answer."""
        return self._portal.call(self._stream.read())

    def close(self) -> None:
        """Stop writing. What came by then is the answer; its `finish_reason` is "cancelled" unless it was over."""
        self._portal.call(self._stream.close())

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = self._portal.call(_next(self._stream))
        if piece is None:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


async def _next(stream: AsyncStream) -> str | None:
    return await anext(stream, None)


class Chat:
    """A conversation that is remembered. `Model.chat` begins one; its questions are asked one after the other."""

    def __init__(self, model: Model, portal: Portal, chat: AsyncChat) -> None:
        self._model = model
        self._portal = portal
        self._chat = chat

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said, questions and answers in turns."""
        return self._chat.messages

    def say(self, text: str, *pictures: PictureSource, **how: Unpack[AskSettings]) -> Answer:
        """Say something, with pictures or none, and have the answer.

        Where the conversation outgrows the context, its oldest messages are left out: `Answer.dropped_messages`. What
        failed is not remembered. Raises as `Model.ask` does.
        """
        return self._portal.call(self._chat.say(text, *pictures, **how))

    def stream(self, text: str, *pictures: PictureSource, **how: Unpack[AskSettings]) -> Stream:
        """The same, as it is written. It is remembered once it has ended or is closed."""
        return Stream(self._model, self._portal, self._chat.stream(text, *pictures, **how))
