"""Work behind the screens, none of whose failures goes unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


def begin(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run it as a task. What it raises unforeseen is logged as an error, and the app shows those."""
    task = asyncio.create_task(work)
    task.add_done_callback(_look)
    return task


def _look(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("Unexpected: %s: %s", type(error).__name__, error, exc_info=error)
