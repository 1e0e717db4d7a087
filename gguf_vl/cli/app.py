"""The verbs put together, and the one place where an error becomes two lines and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gguf_vl import __version__
from gguf_vl.cli import ask, bench, bundle, chat, chats, config, doctor, import_, models, options, plan, pull, serve
from gguf_vl.cli.printing import print_error
from gguf_vl.errors import GgufVlError, UsageError

INTERRUPTED = 130


class _VerbOrChat(TyperGroup):
    """Verbs, and `chat` where none is given: for a terminal, a model's name, or flags alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb in."""
        rest = [word for word in args if word != "--offline"]
        offline = args[: len(args) - len(rest)]
        first = rest[0] if rest else ""
        if first in self.commands or first in ("-h", "--help", "--version"):
            return super().parse_args(ctx, args)
        if first.startswith("-") or _is_model(first) or (not rest and sys.stdin.isatty() and sys.stdout.isatty()):
            args = ["chat", *rest, *offline]
        return super().parse_args(ctx, args)


def _is_model(word: str) -> bool:
    if not word:
        return False
    from gguf_vl import catalogue
    from gguf_vl.errors import ModelNotFound
    from gguf_vl.store import library

    if word.casefold().endswith(".gguf") or library.folder_meant(word):
        return True
    try:
        catalogue.find(word)
    except ModelNotFound:
        return False
    return True


app = typer.Typer(
    name="gguf-vl",
    cls=_VerbOrChat,
    help="Talk about pictures with Qwen3-VL, on this machine.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("chat")(chat.chat)
app.command("ask")(ask.ask)
app.command("pull")(pull.pull)
app.command("list")(models.list_models)
app.command("import")(import_.import_models)
app.command("show")(models.show)
app.command("verify")(models.verify)
app.command("rm")(models.rm)
app.command("plan")(plan.plan)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("serve")(serve.serve)
app.add_typer(bundle.app, name="bundle")
app.add_typer(chats.app, name="chats")
app.add_typer(config.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gguf-vl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
    offline: options.Offline = False,
) -> None:
    options.help_without_verb(context)


def main() -> None:
    """Run the command line and end the process with DESIGN's exit codes."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer has caught it
            raise KeyboardInterrupt
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as ending:
        if not _reader_gone(ending):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
        code = 0
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        code = INTERRUPTED
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        help_for = context.command_path if context else "gguf-vl"
        code = _explain(UsageError(error.format_message(), f"See `{help_for} --help`."), debug)
    except GgufVlError as error:
        code = _explain(error, debug)
    except Exception as error:  # noqa: BLE001  the outermost edge
        fix = "Please report this with the traceback above." if debug else "Run it again with --debug, and report it."
        code = _explain(GgufVlError(f"Unexpected: {type(error).__name__}: {error}", fix), debug)
    sys.exit(code)


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
