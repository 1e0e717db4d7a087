"""Printing what files, folders and servers say to a terminal that must not take it for commands."""

from __future__ import annotations

import sys

from gguf_vl.errors import GgufVlError


def harmless(text: object) -> str:
    """Text with a `?` for every character that is not printed, line breaks aside."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in str(text))


def print_error(error: GgufVlError) -> None:
    """What happened and what to do, on standard error."""
    print(harmless(f"gguf-vl: {error.what}\n  {error.fix}"), file=sys.stderr)
