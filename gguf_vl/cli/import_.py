"""`gguf-vl import`: use models that are on this machine already."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless
from gguf_vl.errors import UsageError

if TYPE_CHECKING:
    from gguf_vl.store.adopt import Outcome

_HOW = {True: "hard-linked", False: "used where it is", None: ""}


def import_models(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="GGUF files, or folders that hold them.")
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Look where Hugging Face, LM Studio, Ollama and llama.cpp keep models.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="What to call it, for one model.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Use models that are on this machine already: linked, never copied or moved."""
    options.logging_to_stderr(debug)
    if bool(paths) == scan:
        raise UsageError(
            "Give files or folders, or --scan, not both." if scan else "Nothing to import is given.",
            "Run `gguf-vl import --scan`, or give the text model's file and its mmproj file.",
        )
    if scan and name is not None:
        raise UsageError("--name is for one model, and --scan may find many.", "Import the one by its path.")
    from pathlib import Path

    from gguf_vl.cli.failing import end_with
    from gguf_vl.cli.progress import progress
    from gguf_vl.store.adopt import bring_in, found_elsewhere, found_in, places

    where = places() if scan else []
    found = found_elsewhere(where) if scan else found_in(Path(path) for path in paths or ())
    outcomes: list[Outcome] = []
    try:
        with progress("Hashing") as bars:
            for outcome in bring_in(found, name=name, only_qwen3vl=scan, dry_run=dry_run, progress=bars):
                outcomes.append(outcome)
    finally:  # what was done before an interrupt is done
        if not as_json:
            _print_lines(outcomes, scan)
    if not scan:
        end_with([outcome.error for outcome in outcomes if outcome.error])
    if as_json:
        import json

        print(json.dumps([_row(outcome) for outcome in outcomes], ensure_ascii=False, indent=2))
    elif not outcomes:
        looked = ", ".join(str(place.folder) for place in where) or "none of their folders is here"
        print(f"Hugging Face, LM Studio, Ollama and llama.cpp have no GGUF file here ({looked}).", file=sys.stderr)


def _print_lines(outcomes: list[Outcome], scan: bool) -> None:
    """A line for each; of explicit paths the errors are left to `end_with`."""
    for outcome in outcomes:
        if outcome.error is None:
            how = ", ".join(filter(None, (outcome.source, _HOW[outcome.linked])))
            print(harmless(f"{outcome.state} as {outcome.name}: {outcome.model} ({how})"))
            if outcome.mmproj is None and outcome.state != "already here":
                print("  It has no projector: it chats without pictures.")
        elif scan:
            print(harmless(f"{outcome.state}: {outcome.error.what}"))
            if outcome.error.fix:
                print(harmless(f"  {outcome.error.fix}"))


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "outcome": outcome.state,
        "name": outcome.name,
        "model": str(outcome.model),
        "mmproj": str(outcome.mmproj) if outcome.mmproj else None,
        "source": outcome.source,
        "linked": outcome.linked,
        "error": {"what": outcome.error.what, "fix": outcome.error.fix} if outcome.error else None,
    }
