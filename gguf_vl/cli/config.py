"""`gguf-vl config`: read and change the settings."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Show and change the settings.", no_args_is_help=True)


@app.command("get")
def get(key: Annotated[str | None, typer.Argument(help="One setting; all without it.")] = None) -> None:
    """Print settings with where each value comes from: default, file or environment."""
    raise NotImplementedError
