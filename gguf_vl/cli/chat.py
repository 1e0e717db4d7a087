"""`gguf-vl` and `gguf-vl chat`: talk about pictures in the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gguf_vl.cli import options


@options.with_flags(options.ASKING, but=("parallel",))
def chat(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="As --model.")] = None,
    *,
    flags: dict[str, Any],
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Talk about pictures in the terminal."""
    # with the log it would be written over the screen; F10 shows it
    settings = options.settings(False, **flags | ({"model": name} if name else {}))
    from gguf_vl.tui.opening import open_app

    raise typer.Exit(open_app(settings))
