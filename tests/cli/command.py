"""Runs the real command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SHAPES = str(PICTURES / "shapes.png")
"""A blue square, a red circle and a yellow star."""
TWO = str(PICTURES / "two.png")
"""A green triangle and a purple circle."""


def gguf_vl(
    *words: str, stdin: bytes = b"", environment: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """`gguf-vl WORDS…` with this standard input, and what it printed."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "gguf_vl", *words],
        input=stdin,
        capture_output=True,
        timeout=timeout,
        env=os.environ | (environment or {}),
    )
