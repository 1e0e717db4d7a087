"""`gguf-vl config`: read and change the settings."""

from __future__ import annotations

from typing import Annotated

import typer

from gguf_vl.cli import options

app = typer.Typer(help="Show and change the settings.")
app.callback(invoke_without_command=True)(options.help_without_verb)


@app.command("get")
def get(
    key: Annotated[str | None, typer.Argument(help="One setting, its value alone. All of them without it.")] = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Print a setting, or all of them with where each comes from."""
    options.logging_to_stderr(debug)
    from gguf_vl import config

    found = config.with_origins({})
    if key is not None:
        config.check_key(key)
        value, _ = found[key]
        print("" if value is None else value)
        return
    for name, (value, origin) in found.items():
        print(f"{name:<12} {'-' if value is None else value!s:<24} {origin}")


@app.command("set")
def set_(
    key: Annotated[str, typer.Argument(help="The setting.")],
    value: Annotated[str, typer.Argument(help="Its value; the empty text takes the setting back.")],
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Write a setting to config.toml."""
    options.logging_to_stderr(debug)
    from gguf_vl.config import set_setting

    set_setting(key, value)


@app.command("path")
def path(offline: options.Offline = False) -> None:
    """Print where config.toml is."""
    from gguf_vl import paths

    print(paths.config_file())
