"""What the tests of the library ask about, and how they look at what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "docs" / "pictures" / "shapes.png"
"""A blue square, a red circle and a yellow star."""
TWO = ROOT / "docs" / "pictures" / "two.png"
"""A green triangle and a purple circle."""
COLOUR = "What colour is the circle?"
SHAPE_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"shape": {"type": "string"}, "color": {"type": "string"}, "place": {"type": "string"}},
        "required": ["shape", "color", "place"],
        "additionalProperties": False,
    },
}


def workers() -> set[int]:
    """The processes of models that this one has started."""
    found = psutil.Process().children(recursive=True)
    return {each.pid for each in found if "gguf_vl.engine.worker" in each.cmdline()}


def run(script: str, *, home: Path) -> subprocess.CompletedProcess[str]:
    """A program of its own, as a person writes it."""
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ | {"GGUF_VL_HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def has_ended(pid: int) -> bool:
    """Whether a process is gone. It is no child of ours, and may have no time left."""
    _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    return not alive
