"""Writes docs/cli.md, the reference of the command line, from the command line itself.

.venv/bin/python scripts/make_cli_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from gguf_vl.cli.app import app

REFERENCE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = "110"


def reference() -> str:
    """The whole page."""
    parts = ["# The command line", "Written by `scripts/make_cli_reference.py`; do not edit."]
    for words in _verbs(typer.main.get_command(app), ()):
        shown = CliRunner().invoke(app, [*words, "--help"], prog_name="gguf-vl", env={"COLUMNS": WIDTH})
        help_text = "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())
        parts += [f"## `{' '.join(('gguf-vl', *words))}`", f"```\n{help_text}\n```"]
    return "\n\n".join(parts) + "\n"


def _verbs(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for verb, child in getattr(command, "commands", {}).items():
        yield from _verbs(child, (*words, verb))


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
