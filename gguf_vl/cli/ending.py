"""How a command ends: the one place where an error becomes two lines and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper

from gguf_vl.cli.printing import print_error
from gguf_vl.errors import GgufVlError

INTERRUPTED = 130


def exit_code(run: Callable[[], int]) -> int:
    """Run it, tell what goes wrong, and give the exit code, as DESIGN has them."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        code = run()
        sys.stdout.flush()
        return code
    except (BrokenPipeError, SystemExit) as ending:
        if not _reader_gone(ending):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
        return 0
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except GgufVlError as error:
        return _explain(error, debug)
    except Exception as error:  # noqa: BLE001  the outermost edge
        fix = "Please report this with the traceback above." if debug else "Run it again with --debug, and report it."
        return _explain(GgufVlError(f"Unexpected: {type(error).__name__}: {error}", fix), debug)


def _reader_gone(ending: BaseException) -> bool:
    """Whether whoever read our output closed it; typer turns that into an exit of its own."""
    return isinstance(ending, BrokenPipeError) or isinstance(ending.__context__, BrokenPipeError)


def _explain(error: GgufVlError, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print_error(error)
    return error.exit_code


if hasattr(signal, "SIGPIPE"):
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a closed pipe is an error to handle, on every platform
