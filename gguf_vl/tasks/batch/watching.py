"""Pictures as they come into folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Container

from gguf_vl.tasks.batch.inputs import Inputs

POLL_S = 1.0
"""Seconds between two looks. Asked for, not waited for: network folders and other systems tell of no changes."""


async def arriving(inputs: Inputs, done: Container[str], *, poll_s: float = POLL_S) -> AsyncGenerator[str, None]:
    """The pictures that are there and not `done` (absolute paths), then new ones, for ever.

    One is taken once two looks have seen it with one size, not 0, and one time of change: nobody writes to it any more.
    """
    taken: set[str] = set()
    seen: dict[str, tuple[int, int]] = {}
    while True:
        seen, before = await asyncio.to_thread(_look, inputs), seen
        for file, state in seen.items():
            path = os.path.abspath(file)
            if path not in taken and path not in done and state == before.get(file):
                taken.add(path)
                yield file
        await asyncio.sleep(poll_s)


def _look(inputs: Inputs) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of change in ns of every picture that has a byte."""
    seen = {}
    for file in inputs.files():
        try:
            status = os.stat(file)
        except OSError:  # gone again, or not yet to be read
            continue
        if status.st_size:
            seen[file] = (status.st_size, status.st_mtime_ns)
    return seen
