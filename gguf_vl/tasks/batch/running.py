"""Many pictures through one engine, as many at once as it answers and a few more on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from gguf_vl.engine.client import Engine
from gguf_vl.errors import EngineError, GgufVlError, InvalidPicture, UsageError, WorkerDied
from gguf_vl.media.children import in_thread
from gguf_vl.media.video import is_video
from gguf_vl.tasks import results
from gguf_vl.tasks.batch.job import Job
from gguf_vl.tasks.batch.line import Line, failed
from gguf_vl.tasks.batch.turns import Turns
from gguf_vl.tasks.by_frame import FrameByFrame, answer
from gguf_vl.types import Finished, Request, Text

AHEAD = 2
"""Pictures decoded, and encoded, ahead of those that are being answered. No more are in memory."""


async def answered(
    engine: Engine, job: Job, files: AsyncIterator[str], *, in_flight: int | None = None
) -> AsyncGenerator[Line, None]:
    """A line for every file, in the order of finishing. `in_flight` are under way at once; None suits the engine.

    A file is a picture, a page of a document, or a video. What is wrong with it is its line's error. One under which
    the worker died is tried once more, with nothing beside it, so that none pays for another. The model is loaded once
    there is a file; raises what that raises: then nothing can be answered. Leaving early gives up those under way.
    """
    lines: asyncio.Queue[Line | None] = asyncio.Queue()
    turns, turn = Turns(), asyncio.Lock()

    async def seat() -> None:
        while True:
            async with turn:  # a generator can be asked by one at a time
                file = await anext(files, None)
            if file is None:
                return
            lines.put_nowait(await _line(engine, job, file, turns))

    async def all_of_them() -> None:
        try:
            await asyncio.gather(*seats)
        finally:
            lines.put_nowait(None)

    seats = [asyncio.create_task(seat()) for _ in range(in_flight or engine.settings.n_seq_max + AHEAD)]
    ended = asyncio.create_task(all_of_them())
    try:
        while (line := await lines.get()) is not None:
            yield line
        await ended
    finally:
        for each in (*seats, ended):
            each.cancel()
        await asyncio.gather(*seats, ended, return_exceptions=True)


async def _line(engine: Engine, job: Job, file: str, turns: Turns) -> Line:
    try:
        return await turns.take(lambda: _attempt(engine, job, file), is_video=is_video(Path(file)))
    except WorkerDied as error:
        return failed(file, error)


async def _attempt(engine: Engine, job: Job, file: str) -> Line:
    """Raises `WorkerDied` where the worker ended over it, and what loading the model anew raises."""
    try:
        await engine.start()
    except WorkerDied as error:  # not over this picture
        raise EngineError(error.what, error.fix) from error
    try:
        shown = await in_thread(job.show_file, file, engine.settings)
    except (InvalidPicture, UsageError) as error:
        return failed(file, error)
    end: Finished | None = None
    size = shown.pictures[-1].original_size
    try:
        text, end = await _answer(engine, job.asked(shown))
        result = results.read(job.task, text, end, shown.pictures)
    except WorkerDied:
        raise
    except GgufVlError as error:
        return failed(file, error, end, size)
    return Line(
        file,
        answer=result.text,
        fields=result.fields,
        boxes=result.boxes,
        points=result.points,
        size=size,
        usage=end.usage,
        timings=end.timings,
        note=" ".join(shown.notes),
    )


async def _answer(engine: Engine, asked: Request | FrameByFrame) -> tuple[str, Finished]:
    """An answer and its end."""
    pieces = []
    async with aclosing(answer(engine, asked)) as events:
        async for event in events:
            if isinstance(event, Text):
                pieces.append(event.text)
            elif isinstance(event, Finished):
                return "".join(pieces), event
    raise EngineError("The answer has no end.", "Run it again with --debug, and report it.")
