"""Writes docs/cli.md, the reference of the command line, from the command line itself.

.venv/bin/python scripts/make_cli_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import typer

from gguf_vl.cli.app import app

REFERENCE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 100


def reference() -> str:
    """The whole page."""
    parts = ["# The command line", "Written by `scripts/make_cli_reference.py`; do not edit."]
    for words, help_text in _helps(typer.main.get_command(app), "gguf-vl", None):
        parts += [f"## `{words}`", f"```\n{help_text}\n```"]
    return "\n\n".join(parts) + "\n"


def _helps(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = ["-h", "--help"]
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield context.command_path, help_text
    for verb, child in getattr(command, "commands", {}).items():
        yield from _helps(child, verb, context)


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
