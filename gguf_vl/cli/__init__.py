"""The command `gguf-vl`: one module per verb, each thin: parse, call, print.

Nothing heavy is imported before a verb runs: `gguf-vl --help` must answer in under 150 ms.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and end the process with DESIGN's exit codes."""
    from gguf_vl.cli.ending import exit_code

    talks = len(sys.argv) == 1 and sys.stdin.isatty() and sys.stdout.isatty()
    sys.exit(exit_code(_talk if talks else _run))


def _talk() -> int:
    """`gguf-vl` alone, as `gguf-vl chat`: the first screen comes a tenth of a second sooner without the verbs."""
    gc.disable()  # what is made now stays; the app collects again once it is drawn
    from gguf_vl.config import load_settings
    from gguf_vl.tui.opening import open_app

    return open_app(load_settings({}))


def _run() -> int:
    from gguf_vl.cli.app import run

    return run()
