"""Leaving because somebody outside says so: a signal, or a window that is closed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.app import App

PATIENCE_S = 5
"""Seconds that leaving may take. Then the process ends as it is: what matters is in the history by then."""


def leave_when_told(app: App[Any]) -> None:
    """Have the app leave as with its own key when the process is asked to end. Called in its loop."""
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()

    def leave(told: int, _frame: object) -> None:
        signal.alarm(PATIENCE_S)
        if not os.isatty(0):
            _write_nowhere()
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: app.exit(return_code=128 + told))

    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, leave)


def _write_nowhere() -> None:
    """The window is gone: what is written into it would fail, and Textual would then wait for ever to write more.

    A closed window sends SIGCONT too, right behind: Textual would set up the terminal anew.
    """
    if sys.platform != "win32":
        signal.signal(signal.SIGCONT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)


def tidy() -> None:
    """Switch off what Textual switches on in some terminals and leaves on: the mouse's place in pixels."""
    if sys.__stderr__ and sys.__stderr__.isatty():
        sys.__stderr__.write("\x1b[?1016l")
        sys.__stderr__.flush()
