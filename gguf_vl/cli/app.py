"""The verbs put together."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gguf_vl import __version__
from gguf_vl.cli import (
    ask,
    batch,
    bench,
    bundle,
    chat,
    chats,
    config,
    doctor,
    import_,
    models,
    options,
    plan,
    pull,
    serve,
    tasks,
)
from gguf_vl.cli.ending import INTERRUPTED
from gguf_vl.errors import UsageError


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
app.command("batch")(batch.batch)
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
app.add_typer(tasks.app, name="tasks")
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


def run() -> int:
    """Run the verb that the command line names. -> the exit code."""
    try:
        code = app(standalone_mode=False) or 0
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        help_for = context.command_path if context else "gguf-vl"
        raise UsageError(error.format_message(), f"See `{help_for} --help`.") from error
    if code == INTERRUPTED:  # typer has caught it
        raise KeyboardInterrupt
    return int(code)
