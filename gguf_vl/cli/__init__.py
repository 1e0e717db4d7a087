"""The command `gguf-vl`: one module per verb, each thin: parse, call, print.

Nothing heavy is imported before a verb runs: `gguf-vl --help` must answer in under 150 ms.
"""

from __future__ import annotations

from gguf_vl.cli.app import main

__all__ = ["main"]
