"""Child processes that end with who waits for them. A thread cannot be cancelled, but its child can be killed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from gguf_vl.errors import InvalidPicture

if TYPE_CHECKING:
    from concurrent.futures import Executor

P = ParamSpec("P")
T = TypeVar("T")


class _Children:
    """Those of one call of `in_thread`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: set[subprocess.Popen[bytes]] = set()
        self.is_ended = False

    def end(self) -> None:
        """Kill them, and let no other begin."""
        with self.lock:
            self.is_ended = True
            for child in self.running:
                child.kill()


_OF_NO_CALL = _Children()
_CHILDREN: ContextVar[_Children] = ContextVar("children", default=_OF_NO_CALL)


async def in_thread(work: Callable[P, T], *given: P.args, **more: P.kwargs) -> T:
    """`asyncio.to_thread` for what reads pictures, documents and videos: cancelled, it kills the children that do."""
    return await in_executor(None, work, *given, **more)


async def in_executor(executor: Executor | None, work: Callable[P, T], *given: P.args, **more: P.kwargs) -> T:
    """The same on a thread of an executor; None is asyncio's own."""
    import asyncio  # not in a child, which starts the sooner

    children, context = _Children(), copy_context()
    context.run(_CHILDREN.set, children)
    work_of_ours = partial(context.run, partial(work, *given, **more))
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work_of_ours)
    finally:
        children.end()


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child with pipes for stdin, stdout and stderr. However this is left, it has ended.

    Raises InvalidPicture where whoever waited for it was cancelled.
    """
    children, pipe = _CHILDREN.get(), subprocess.PIPE
    with children.lock:
        if children.is_ended:
            raise InvalidPicture("Nobody waits for it any more.", "Ask again.")
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        children.running.add(child)
    try:
        with child:
            try:
                yield child
            finally:
                child.kill()  # harmless where it has ended
    finally:
        with children.lock:
            children.running.discard(child)
