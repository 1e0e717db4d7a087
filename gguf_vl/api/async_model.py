"""`load_async`: models, answers, chats and batches for asyncio. Everything else of the library stands on this."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, Unpack

from gguf_vl.api.answers import Answer, BatchResult
from gguf_vl.api.asking import Asked, Asking, Planned, for_each, plan, split
from gguf_vl.api.pictures import PictureSource, is_video
from gguf_vl.api.settings import AskSettings, LoadSettings, checked
from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.media.boxes import Box
from gguf_vl.media.children import in_thread
from gguf_vl.media.choice import Frames
from gguf_vl.tasks.batch.turns import Turns
from gguf_vl.tasks.by_frame import answer
from gguf_vl.types import Finished, Message, Request, Text, Thinking


def load_async(
    model: str | os.PathLike[str] | None = None,
    *,
    on_progress: Callable[[float], None] | None = None,
    **settings: Unpack[LoadSettings],
) -> Loading:
    """Load a model: `async with load_async("2b") as model`, or `model = await load_async("2b")` and `model.close()`.

    Arguments and errors are those of `load`.
    """
    return Loading(lambda: plan(model, settings, on_progress))


class Loading:
    """What `load_async` gives: awaited, it is the model; as a context manager, the model for as long as the block."""

    def __init__(self, make: Callable[[], Planned]) -> None:
        self._make = make
        self._model: AsyncModel | None = None

    def __await__(self) -> Generator[Any, None, AsyncModel]:
        return self._load().__await__()

    async def _load(self) -> AsyncModel:
        return await started(await asyncio.to_thread(self._make))

    async def __aenter__(self) -> AsyncModel:
        self._model = await self
        return self._model

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._model:
            await self._model.close()


async def started(planned: Planned) -> AsyncModel:
    """The model, in memory. Whoever leaves in the middle leaves nothing behind."""
    try:
        await planned.engine.start()
    except BaseException:
        await planned.engine.close()
        raise
    return AsyncModel(planned)


class AsyncModel:
    """A model in memory, for the event loop it was loaded in. `load_async` makes one.

    Any number of questions may be under way at once: the engine answers them together.
    """

    def __init__(self, planned: Planned) -> None:
        self._planned = planned
        self._engine = planned.engine
        self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()

    @property
    def name(self) -> str:
        """What the model is called here."""
        return self._planned.installed.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person may want to know of how the model was chosen and loaded, in lines."""
        return tuple(self._planned.notes)

    async def ask(self, *asked: PictureSource, question: str | None = None, **how: Unpack[AskSettings]) -> Answer:
        """The answer to a question about pictures, or none. Arguments and errors are those of `Model.ask`."""
        return await self.stream(*asked, question=question, **how).read()

    def stream(self, *asked: PictureSource, question: str | None = None, **how: Unpack[AskSettings]) -> AsyncStream:
        """The same, as it is written. Nothing is asked before it is read."""
        sources, words = split(asked, question)
        return AsyncStream(self, lambda: self._planned.prepare(Asking(words, how), sources))

    async def locate(self, picture: PictureSource, what: str) -> tuple[Box, ...]:
        """Where that is in the picture. Arguments and errors are those of `Model.locate`."""
        return (await self.run("locate", picture, thing=what)).boxes

    async def run(
        self, task: str, /, *pictures: PictureSource, frames: Frames | None = None, **parameters: str
    ) -> Answer:
        """What a task makes of pictures. Arguments and errors are those of `Model.run`."""
        return await self._answer(Asking("", {"frames": frames}, task, parameters), pictures)

    async def _answer(self, asking: Asking, sources: Sequence[PictureSource]) -> Answer:
        return await AsyncStream(self, lambda: self._planned.prepare(asking, sources)).read()

    def chat(self, **how: Unpack[AskSettings]) -> AsyncChat:
        """A new conversation. The settings are those of its questions that do not say otherwise."""
        checked(how)
        return AsyncChat(self, how)

    async def batch(
        self,
        pictures: Iterable[PictureSource],
        question: str = "",
        *,
        task: str | None = None,
        parameters: Mapping[str, str] | None = None,
        **how: Unpack[AskSettings],
    ) -> AsyncGenerator[BatchResult, None]:
        """The same question or task about each of many pictures. Arguments and errors are those of `Model.batch`."""
        asking = for_each(question, task, parameters, how)
        turns = Turns()
        waiting = enumerate(pictures)
        running: set[asyncio.Task[BatchResult]] = set()
        try:
            while True:
                while len(running) < in_flight(self) and (following := next(waiting, None)):
                    running.add(asyncio.create_task(one_of_batch(self, *following, asking, turns)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def close(self) -> None:
        """End the model's process and give its memory back. Questions under way get `EngineError`."""
        self._loop = None
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._loop:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            if not self._loop.is_closed():
                engine, loop = self._engine, self._loop
                loop.call_soon_threadsafe(lambda: loop.create_task(engine.close()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def in_flight(model: AsyncModel) -> int:
    """How many of a batch are asked at once: pictures of some are encoded while others are answered."""
    return 2 * model._engine.settings.n_seq_max


async def one_of_batch(
    model: AsyncModel, index: int, picture: PictureSource, asking: Asking, turns: Turns
) -> BatchResult:
    """One result of a batch. What goes wrong with its picture is in it."""
    try:
        is_long = await asyncio.to_thread(is_video, picture)
        answer = await turns.take(lambda: model._answer(asking, [picture]), is_video=is_long)
        return BatchResult(index, picture, answer)
    except GgufVlError as error:
        return BatchResult(index, picture, None, error)


@dataclass(slots=True)
class _Told:
    """How far an answer is. It is apart from its stream, so that a stream that is forgotten is freed at once."""

    id: str = ""
    text: str = ""
    thinking: str = ""
    answer: Answer | None = None


class AsyncStream:
    """An answer as it is written: iterate for the pieces of its text, then look at `answer`.

    Leaving early and closing, or forgetting, the stream cancels what is left; closed, it has the `answer` so far.
    """

    def __init__(
        self, model: AsyncModel, prepare: Callable[[], Asked], then: Callable[[Asked, Answer], None] | None = None
    ) -> None:
        self._model = model  # a model that was forgotten ends
        self._told = _Told()
        self._pieces = _pieces(model._engine, prepare, self._told, then)

    @property
    def text(self) -> str:
        """What has come so far."""
        return self._told.text

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises `UsageError` while it has not come to its end."""
        if self._told.answer is None:
            raise UsageError("The answer has not come to its end.", "Read its stream to the end, or close it.")
        return self._told.answer

    async def read(self) -> Answer:
        """Read what is left, and give the whole answer."""
        async for _ in self._pieces:
            pass
        return self.answer

    async def close(self) -> None:
        """Stop writing. What came by then is the answer; its `finish_reason` is "cancelled" unless it was over."""
        if self._told.id:
            await self._model._engine.cancel(self._told.id)
            async for _ in self._pieces:
                pass
        await self._pieces.aclose()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        return await anext(self._pieces)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


async def _pieces(
    engine: Any, prepare: Callable[[], Asked], told: _Told, then: Callable[[Asked, Answer], None] | None
) -> AsyncGenerator[str, None]:
    asked = await in_thread(prepare)
    if isinstance(asked.request, Request):
        told.id = asked.request.id
    async with aclosing(answer(engine, asked.request)) as events:
        async for event in events:
            match event:
                case Text(text):
                    told.text += text
                    yield text
                case Thinking(text):
                    told.thinking += text
                case Finished():
                    told.answer = asked.answer(told.text, told.thinking, event)
                    if then:
                        then(asked, told.answer)


class AsyncChat:
    """A conversation that is remembered. `AsyncModel.chat` begins one; its questions are asked one after the other."""

    def __init__(self, model: AsyncModel, how: AskSettings) -> None:
        self._model = model
        self._how = how
        self._messages: list[Message] = []

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said, questions and answers in turns."""
        return tuple(self._messages)

    async def say(self, text: str, *pictures: PictureSource, **how: Unpack[AskSettings]) -> Answer:
        """Say something, with pictures or none, and have the answer. Arguments and errors are those of `Chat.say`."""
        return await self.stream(text, *pictures, **how).read()

    def stream(self, text: str, *pictures: PictureSource, **how: Unpack[AskSettings]) -> AsyncStream:
        """The same, as it is written. It is remembered once it has ended or is closed."""
        settings: AskSettings = {**self._how, **how}
        before, planned, messages = self.messages, self._model._planned, self._messages

        def remember(asked: Asked, answer: Answer) -> None:
            assert isinstance(asked.request, Request)  # frame by frame is a task's way
            messages.extend((asked.request.messages[-1], Message("assistant", (answer.text,))))

        return AsyncStream(self._model, lambda: planned.prepare(Asking(text, settings), pictures, before), remember)
