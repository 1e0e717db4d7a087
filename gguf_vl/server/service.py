"""What every dialect calls: a request in, events out; from a model's name to its engine, within the time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from gguf_vl.config import Settings
from gguf_vl.engine.client import Engine
from gguf_vl.engine.several import answers
from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, MissingOrInvalid, UsageError
from gguf_vl.media.boxes import Box, Point, find_boxes, find_points
from gguf_vl.runtime.models import Installed
from gguf_vl.runtime.serving import Serving
from gguf_vl.server.asked import Asked, Shown, Turn
from gguf_vl.server.failures import TimedOut, Unavailable
from gguf_vl.server.gate import Gate, ending
from gguf_vl.server.models import Models
from gguf_vl.server.pictures import Pictures, Seen
from gguf_vl.server.record import current
from gguf_vl.tasks import asking
from gguf_vl.tasks.by_frame import FrameByFrame, answer, is_by_frame
from gguf_vl.tasks.task import Task
from gguf_vl.types import Embedding, Event, Finished, Message, Picture, PictureLimits, Request, Sampling, Text, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Located:
    """What an answer locates, in pixels of the request's last picture, whose `size` is (width, height). Comes before
    the answer's end.
    """

    boxes: tuple[Box, ...]
    points: tuple[Point, ...]
    size: tuple[int, int] | None = None


Events = AsyncGenerator[tuple[int, Event | Located], None]
"""What comes of a request, each event with the number of its answer from 0."""
Arrivals = asyncio.Queue[tuple[int, Event | Located] | None]
_NO_PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
_EMBEDDED_AT_ONCE = 16
"""Texts of one request, so that others find a place between them."""
_MOST_EMBEDDED = 2048
"""Texts of one request, as OpenAI's."""
_MOST_TOKENIZED = 256 << 10
"""Bytes of a text whose tokens are listed one by one."""
_BYTES_A_TOKEN = 64
"""A text with more bytes for each cell of the context is refused unread: words have four, runs of spaces many."""


@dataclass(frozen=True, slots=True)
class Service:
    """Answers for all dialects. `limit_s` is the longest a request may take, loading the model included; the `gate`
    counts them.
    """

    settings: Settings
    models: Models
    serving: Serving
    pictures: Pictures
    limit_s: float
    gate: Gate

    async def answer(self, asked: Asked) -> Events:
        """The events of `asked.n` answers. Leaving early ends them. Raises the tree of errors, `TimedOut` too."""
        arrivals: Arrivals = asyncio.Queue()
        running = asyncio.create_task(self._answer(asked, arrivals))
        try:
            while (arrived := await arrivals.get()) is not None:
                yield arrived
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _answer(self, asked: Asked, arrivals: Arrivals) -> None:
        """A task of its own, since a response is begun in one task and goes on in another."""
        record = current()
        try:
            async with self._using(asked.model, asked.n) as (installed, engine):
                record.model = installed.name
                request = await self._request(asked, installed, engine)
                texts = [""] * asked.n
                if isinstance(request, FrameByFrame):
                    coming = _alike(answer(engine, request), asked.n)
                else:
                    coming = answers(engine, request, asked.n)
                async with aclosing(coming) as events:
                    async for number, event in events:
                        record.take(event)
                        if asked.boxes and isinstance(event, Text):
                            texts[number] += event.text
                        if asked.boxes and isinstance(event, Finished):
                            arrivals.put_nowait((number, _located(texts[number], request)))
                        arrivals.put_nowait((number, event))
        except GgufVlError as error:
            record.error = error
            raise
        finally:
            arrivals.put_nowait(None)

    async def load(self, model: str) -> None:
        """Have a model loaded."""
        async with self._using(model) as (_, engine):
            await engine.start()

    async def unload(self, model: str) -> None:
        """Give a model's memory back, unless it is in use or another one is loaded."""
        if self.serving.loaded == self.models.find(model).name:
            await self.serving.unload()

    def n_ctx(self, installed: Installed) -> int | None:
        """The tokens that a request to a model may have with its answer; None for one that is not planned yet."""
        if self.serving.loaded == installed.name:
            return self.serving.n_ctx
        return self.models.n_ctx if installed.name == self.models.default.name else None

    async def count(self, asked: Asked) -> Usage:
        """The tokens of a request's prompt."""
        async with self._using(asked.model) as (installed, engine):
            request = await self._request(asked, installed, engine)
            if isinstance(request, FrameByFrame):
                raise UsageError("A task that is done frame by frame is no single prompt.", "Count a message's tokens.")
            return await engine.count(request)

    async def tokenize(self, model: str, text: str) -> tuple[tuple[int, bytes], ...]:
        """The tokens of a text, each with its bytes."""
        if (n_bytes := _n_bytes(text)) > _MOST_TOKENIZED:
            raise UsageError(f"The text has {n_bytes:,} bytes, and {_MOST_TOKENIZED:,} are taken.", "Send it in parts.")
        async with self._using(model) as (_, engine):
            return await engine.tokenize(text)

    async def embed(self, model: str, texts: list[str]) -> list[Embedding]:
        """Texts as vectors."""
        if len(texts) > _MOST_EMBEDDED:
            raise UsageError(
                f"There are {len(texts):,} texts, and {_MOST_EMBEDDED:,} are taken.", "Send fewer at once."
            )
        found: list[Embedding] = []
        async with self._using(model) as (_, engine):
            for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
                found += await _all(engine.embed(text) for text in texts[start : start + _EMBEDDED_AT_ONCE])
        return found

    async def look(self, shown: Shown, model: str = "") -> Seen:
        """A picture, document or video as a model sees it where it is all that a request shows: of a document as many
        pages as fit.
        """
        async with self._using(model) as (_, engine):
            allowed = [(shown, self._allowed(shown, None, engine))]
            [seen] = await self.pictures.read(allowed, engine.settings.n_ctx, cut=True)
            return seen

    async def prepare(self, seen: Seen, model: str = "") -> None:
        """Encode what was seen ahead of its question. Cancelling stops it."""
        async with self._engine(self.models.find(model)) as engine:
            await engine.prepare(Message("user", seen.content))

    async def end(self) -> None:
        """Let nobody in any more, and end what is under way."""
        self.gate.close()
        await self.serving.close()

    @asynccontextmanager
    async def _using(self, model: str, n: int = 1) -> AsyncIterator[tuple[Installed, Engine]]:
        """A model and its engine for `n` answers: within the limits of number and time, and until the server ends."""
        installed = self.models.find(model)
        try:
            with self.gate.entered(n):
                async with self._in_time(), self._engine(installed) as engine:
                    yield installed, engine
        except EngineError as error:
            if self.gate.is_closed:
                raise ending() from error
            raise

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.limit_s) as limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimedOut(
                f"The request took longer than the {self.limit_s:g} s that are allowed here.",
                "Ask for fewer tokens, or have the operator raise `--timeout`.",
            ) from error

    @asynccontextmanager
    async def _engine(self, installed: Installed) -> AsyncIterator[Engine]:
        async with AsyncExitStack() as stack:
            try:
                engine = await stack.enter_async_context(self.serving.using(installed.name))
                await engine.start()  # it may have been unloaded, or died
            except (DoesNotFit, MissingOrInvalid) as error:  # the model; of a request it is the request's own fault
                raise Unavailable(error.what, error.fix) from error
            yield engine

    async def _request(self, asked: Asked, installed: Installed, engine: Engine) -> Request | FrameByFrame:
        shown = [(part, turn) for turn in asked.turns for part in turn.content if isinstance(part, Shown)]
        self.pictures.check(len(shown))
        self._check_length(sum(_n_bytes(text) for turn in asked.turns for text in _texts(turn)), engine)
        by_frame = asked.task is not None and is_by_frame(asked.task, installed.name)
        allowed = [(part, self._allowed(part, turn.task, engine)) for part, turn in shown]
        seen = iter(await self.pictures.read(allowed, engine.settings.n_ctx, alone=by_frame))
        rules: tuple[Message, ...] = (Message("system", (self.settings.system,)),) if self.settings.system else ()
        messages: list[Message] = []
        task: Request | None = None
        for turn in asked.turns:
            task = None
            content = [part if isinstance(part, str) else next(seen) for part in turn.content]
            if by_frame and turn is asked.turns[-1]:
                return self._by_frame(turn, content, asked, installed)
            if turn.task:
                task = self._task(turn.task, turn, content, messages, asked, installed)
                rules = task.messages[:-1]  # it holds for what is asked behind it, too
                messages.append(task.messages[-1])
            else:
                messages.append(Message(turn.role, _content(content), turn.calls))
        if any(turn.role == "system" for turn in asked.turns):
            rules = ()
        return Request(
            (*rules, *messages),
            self._bounded(task.sampling if task else self._sampling(asked, installed, messages)),
            tools=asked.tools,
            tool_choice=asked.tool_choice,
            id=asked.id,
            **{**asked.options, **({"schema": task.schema, "grammar": task.grammar} if task else {})},
        )

    def _allowed(self, shown: Shown, task: Task | None, engine: Engine) -> PictureLimits:
        """A task's pictures have their own least and most tokens."""
        limits = engine.settings.limits
        return asking.limits(task, self.settings, limits) if task else self.pictures.allowed(shown, limits)

    def _task(
        self,
        task: Task,
        turn: Turn,
        content: Sequence[str | Seen],
        before: Sequence[Message],
        asked: Asked,
        installed: Installed,
    ) -> Request:
        """A turn as the task's own request, whose prompt depends on the model. Without pictures it is about those that
        were shown last.
        """
        last = next((found for message in reversed(before) if (found := _pictures(message))), [])
        words = "\n".join(part for part in content if isinstance(part, str))
        pictures = _content([part for part in content if isinstance(part, Seen)])
        request = asking.request(
            task, pictures or last, turn.given, installed, self.settings, extra=words, sampling=asked.sampling
        )
        *rules, asked_now = request.messages
        if not pictures:
            asked_now = Message("user", asked_now.content[len(last) :])
        return replace(request, messages=(*rules, asked_now))

    def _by_frame(self, turn: Turn, content: Sequence[str | Seen], asked: Asked, installed: Installed) -> FrameByFrame:
        """The task of a turn as requests for each frame of its video."""
        assert turn.task
        words = "\n".join(part for part in content if isinstance(part, str))
        clips = [part.clip for part in content if isinstance(part, Seen) and part.clip]
        found = FrameByFrame(
            turn.task, clips, turn.given, installed, self.settings, extra=words, sampling=asked.sampling
        )
        found.requests = tuple(replace(each, sampling=self._bounded(each.sampling)) for each in found.requests)
        return found

    def _bounded(self, chosen: Sampling) -> Sampling:
        """No more tokens than the operator allows."""
        most = self.settings.max_tokens
        if most is not None and (chosen.max_tokens is None or chosen.max_tokens > most):
            return replace(chosen, max_tokens=most)
        return chosen

    def _check_length(self, n_bytes: int, engine: Engine) -> None:
        if n_bytes > _BYTES_A_TOKEN * engine.settings.n_ctx:
            raise DoesNotFit(
                f"The request has {n_bytes:,} bytes of text, and the context {engine.settings.n_ctx:,} tokens.",
                "Send less.",
            )

    def _sampling(self, asked: Asked, installed: Installed, messages: Sequence[Message]) -> Sampling:
        """What the client asks for, over what the person has set, over what the catalogue recommends."""
        sees = any(map(_pictures, messages))
        chosen = replace(installed.sampling(self.settings, pictures=sees), **asked.sampling)
        if chosen.temperature == 0:
            chosen = replace(chosen, **_NO_PENALTIES | {k: v for k, v in asked.sampling.items() if k in _NO_PENALTIES})
        return chosen


def _content(parts: Iterable[str | Seen]) -> tuple[str | Picture, ...]:
    """What a message holds of its parts."""
    return tuple(each for part in parts for each in ((part,) if isinstance(part, str) else part.content))


async def _alike(events: AsyncGenerator[Event, None], n: int) -> AsyncGenerator[tuple[int, Event], None]:
    """One answer's events as those of `n` that are the same."""
    async with aclosing(events):
        async for event in events:
            for number in range(n):
                yield number, event


def _texts(turn: Turn) -> Iterator[str]:
    """All the words of a turn."""
    yield from (part for part in turn.content if isinstance(part, str))
    yield from turn.given.values()


def _pictures(message: Message) -> list[Picture]:
    return [part for part in message.content if isinstance(part, Picture)]


def _n_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    """What comes of all, done at the same time; where one fails or nobody waits any more, the others are ended."""
    running = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*running)
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _located(answer: str, request: Request | FrameByFrame) -> Located:
    messages = request.messages if isinstance(request, Request) else ()
    pictures = [picture for message in messages for picture in _pictures(message)]
    if not pictures:
        return Located((), ())
    size = pictures[-1].original_size
    return Located(tuple(find_boxes(answer, size)), tuple(find_points(answer, size)), size)
