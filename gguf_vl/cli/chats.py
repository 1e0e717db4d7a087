"""`gguf-vl chats`: the history of the terminal's chats, for scripts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.chat.export.files import Form
from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless

if TYPE_CHECKING:
    from gguf_vl.chat.turns import Chat, Hit, Turn

app = typer.Typer(help="List, search, export, import and restore chats.")
app.callback(invoke_without_command=True)(options.help_without_verb)


ChatId = Annotated[int, typer.Argument(metavar="ID", help="The chat's number in `gguf-vl chats list`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")]


@app.command("list")
def list_chats(
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those deleted in the last 30 days, and when; the latest first.")
    ] = False,
    limit: Limit = None,
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """List the chats: pinned ones (*) first, then the latest."""
    options.logging_to_stderr(debug)
    from gguf_vl.chat.history import History

    with History() as history:
        chats = history.chats(limit=limit, deleted=deleted)
    if as_json:
        _print_json([_chat(chat) for chat in chats])
        return
    if deleted and not chats:
        print("No chat was deleted in the last 30 days.", file=sys.stderr)
    for chat in chats:
        when = _when(chat.deleted or chat.updated)
        print(harmless(f"{chat.id:>5} {'*' if chat.pinned else ' '} {when}  {chat.title}"))


@app.command("show")
def show(
    chat_id: ChatId, as_json: Json = False, offline: options.Offline = False, debug: options.Debug = False
) -> None:
    """Print a chat, as it was last looked at where it has branches."""
    options.logging_to_stderr(debug)
    from gguf_vl.chat.history import History

    with History() as history:
        chat, turns = history.chat(chat_id), history.turns(chat_id)
    if as_json:
        _print_json(_chat(chat) | {"turns": [_turn(turn) for turn in turns]})
        return
    print(harmless(f"{chat.title} ({_when(chat.created)})"))
    for turn in turns:
        print(harmless(f"\n{'You' if turn.role == 'user' else turn.model or 'Answer'}:"))
        for attachment in turn.attachments:
            print(harmless(f"  {attachment.name}, {attachment.width} × {attachment.height}: {attachment.path}"))
        for line in turn.text.splitlines():
            print(harmless(f"  {line}".rstrip()))
        if turn.state != "done":
            print(harmless(f"  ({turn.state}{': ' if turn.error else ''}{turn.error})"))


@app.command("search")
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Words, or parts of words, in any case.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Find the messages and titles that hold all the words."""
    options.logging_to_stderr(debug)
    from gguf_vl.chat.history import History

    with History() as history:
        hits = history.search(" ".join(words), limit=limit)
    if as_json:
        _print_json([_hit(hit) for hit in hits])
        return
    for hit in hits:
        who = {"user": "you: ", "assistant": "", None: "title: "}[hit.role]
        print(harmless(f"{hit.chat.id:>5}  {hit.chat.title}\n       {who}{hit.snippet}"))
    if not hits:
        print("No message holds all of that.", file=sys.stderr)


@app.command("restore")
def restore(
    chat_ids: Annotated[
        list[int], typer.Argument(metavar="ID...", help="The chats' numbers in `gguf-vl chats list --deleted`.")
    ],
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Bring deleted chats back; they are kept for 30 days."""
    options.logging_to_stderr(debug)
    from gguf_vl.chat.history import History

    with History() as history:
        chats = history.restore_chats(*chat_ids)
    _print_chats(chats, as_json)


@app.command("export")
def export(
    chat_ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID...", help="The chats' numbers; all of them without any.")
    ] = None,
    form: Annotated[Form, typer.Option("--as", help="With pictures beside it, in it, or as data.")] = Form.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="PATH", help="The folder; for json the file, else stdout.")
    ] = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Write chats as Markdown, HTML or JSON. JSON has every branch, and can be imported again."""
    options.logging_to_stderr(debug)
    from gguf_vl.chat.export import files
    from gguf_vl.chat.history import History
    from gguf_vl.store.disk import replace_text, telling

    with History() as history:
        ids = chat_ids or [chat.id for chat in history.chats()]
        if form is not Form.JSON:
            for chat_id in ids:
                print(harmless(files.write(history, chat_id, form, out or Path())))
            return
        text = files.as_json(history, ids)
    if out is None:
        print(text, end="")
        return
    with telling(out, "written"):
        replace_text(out, text)
    print(harmless(f"{out}: chats {', '.join(map(str, ids))}"), file=sys.stderr)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `chats export --as json` has written.")],
    as_json: Json = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Add the chats of an export; what is here stays as it is."""
    options.logging_to_stderr(debug)
    from gguf_vl.chat.export import importing
    from gguf_vl.chat.history import History

    data = importing.read(file)
    with History() as history:
        chats = importing.load(history, data)
    _print_chats(chats, as_json)


def _print_chats(chats: list[Chat], as_json: bool) -> None:
    if as_json:
        _print_json([_chat(chat) for chat in chats])
        return
    for chat in chats:
        print(harmless(f"{chat.id:>5}  {chat.title}"))


def _chat(chat: Chat) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(chat)


def _turn(turn: Turn) -> dict[str, Any]:
    from dataclasses import asdict

    plain = asdict(turn)
    for attachment in plain["attachments"]:
        attachment["path"] = str(attachment["path"])
    return plain


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "chat": hit.chat.id,
        "title": hit.chat.title,
        "turn": hit.turn_id,
        "role": hit.role,
        "snippet": hit.snippet,
        "marks": hit.marks,
    }


def _when(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _print_json(plain: Any) -> None:
    import json

    print(json.dumps(plain, ensure_ascii=False, indent=2))
