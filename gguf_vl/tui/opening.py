"""From the command line to the app: everything that must happen before it owns the terminal."""

from __future__ import annotations

import sys

from gguf_vl.chat.history import History
from gguf_vl.config import Settings
from gguf_vl.errors import GgufVlError, UsageError
from gguf_vl.tui import log
from gguf_vl.tui.ending import tidy
from gguf_vl.tui.terminal import detect


def open_app(settings: Settings) -> int:
    """Talk until the person leaves. -> the exit code.

    Raises `UsageError` without a terminal, what opening the history raises, and `GgufVlError` where a mistake ended it.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "The chat needs a terminal, and standard input or output is none.",
            'Ask one question instead: gguf-vl ask picture.png "What is this?"',
        )
    terminal = detect(settings.pictures)
    history = History()
    try:
        from gguf_vl.tui.app import GgufVlApp

        app = GgufVlApp(
            settings,
            history,
            picture_protocol=terminal.pictures,
            picture_cell=terminal.cell,
            typed=terminal.typed,
        )
        app.run()
        if isinstance(app.crash, GgufVlError):
            raise app.crash
        if app.crash:
            raise GgufVlError(
                f"The chat ended by a mistake of its own: {type(app.crash).__name__}: {app.crash}",
                f"`gguf-vl` opens where you were. Please report it with the end of {log.file()}",
            ) from app.crash
        return app.return_code or 0
    finally:
        history.close()
        tidy()
