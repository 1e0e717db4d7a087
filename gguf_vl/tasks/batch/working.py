"""A batch from its beginning to its end, whatever that is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

from gguf_vl.engine.client import Engine
from gguf_vl.tasks.batch.inputs import Inputs
from gguf_vl.tasks.batch.job import Job
from gguf_vl.tasks.batch.line import Line
from gguf_vl.tasks.batch.output import Output
from gguf_vl.tasks.batch.parts import parts
from gguf_vl.tasks.batch.running import answered
from gguf_vl.tasks.batch.watching import arriving


class Terminated(Exception):
    """The system has told this process to end; what was finished is written."""


def left(files: Sequence[str], output: Output) -> list[str]:
    """Of the files those that have no line yet. A document is one of them, whatever lines its pages have."""
    return [file for file in files if os.path.abspath(file) not in output.done]


def work(
    engine: Callable[[], Engine],
    job: Job,
    output: Output,
    files: Sequence[str],
    *,
    watched: Inputs | None = None,
    tell: Callable[[Line], None] = lambda _: None,
    more: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a line for each of the files, or with `watched` for what is there and comes until it is interrupted; for
    each page of documents that has no line yet.

    `tell` hears of each line once it is written, `more` by how many a document's pages are more than one. Raises what
    `answered` and `Output.append` raise; KeyboardInterrupt, and `Terminated` for SIGTERM. What is under way then is
    given up at once: it may last for minutes, and is asked again by who goes on.
    """
    told_to_end = False

    async def run() -> None:
        task = asyncio.current_task()
        assert task

        def end() -> None:
            nonlocal told_to_end
            told_to_end = True
            task.cancel()

        with suppress(NotImplementedError):  # Windows ends the process: nothing of what is written is lost
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        found = arriving(watched, output.done) if watched else _each(files)
        coming = parts(found, output.done, more)
        asked = engine()
        try:
            async with aclosing(found), aclosing(coming), aclosing(answered(asked, job, coming)) as lines:
                async for line in lines:
                    output.append(line)
                    tell(line)
        finally:
            await asked.close()

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        if told_to_end:
            raise Terminated from None
        raise


async def _each(files: Sequence[str]) -> AsyncGenerator[str, None]:
    for file in files:
        yield file
