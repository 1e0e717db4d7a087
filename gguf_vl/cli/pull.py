"""`gguf-vl pull`: models from Hugging Face or ModelScope, verified."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gguf_vl.cli import options
from gguf_vl.cli.printing import harmless

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.store.wishes import Plan


def pull(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="2b, 8b:q8_0, 4b-thinking, …, or hf:owner/repo[:quant].", show_default=False),
    ] = None,
    mmproj: Annotated[str | None, typer.Option("--mmproj", help="The projector's quantisation: q8_0 or f16.")] = None,
    source: Annotated[
        Literal["huggingface", "modelscope"] | None, typer.Option("--source", help="The second is tried by itself too.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Another name for the model; one model at a time.")] = None,
    offline: options.Offline = False,
    debug: options.Debug = False,
) -> None:
    """Fetch models and verify them. Without a name: the one that suits this machine."""
    settings = options.settings(debug)
    from gguf_vl.cli.failing import end_with
    from gguf_vl.errors import GgufVlError, OfflineError, UsageError
    from gguf_vl.store import pull as store
    from gguf_vl.store.wishes import plan as plan_of

    if settings.offline:
        raise OfflineError(
            "pull needs the network, and offline mode is on.",
            "Carry the model here: `gguf-vl bundle create` on another machine, then `gguf-vl bundle install FILE`; "
            "or take files that are here: `gguf-vl import PATH`.",
        )
    wishes = models or [_recommended(settings)]
    if name and len(wishes) > 1:
        raise UsageError("--name names one model, and several are to be pulled.", "Pull them one by one.")
    plans = [plan_of(wish, mmproj=mmproj, source=source, name=name, choose=_choose) for wish in wishes]
    store.check_disk([plan for plan in plans if not plan.is_installed])
    errors: list[GgufVlError] = []
    for plan in plans:
        try:
            _pull(plan)
        except GgufVlError as error:
            errors.append(error)
    end_with(errors)


def _recommended(settings: Settings) -> str:
    from gguf_vl.errors import DoesNotFit
    from gguf_vl.hardware.machine import probe
    from gguf_vl.runtime.planning import recommend, wishes_of

    chosen = recommend(probe(), wishes_of(settings))
    if chosen.plan is None:
        raise DoesNotFit(f"No published model fits this machine: {chosen.trouble}.", "Name one to fetch it anyway.")
    print(f"{chosen.name} suits this machine: {chosen.reasons}", file=sys.stderr)
    return chosen.name


def _pull(plan: Plan) -> None:
    from gguf_vl.cli.progress import progress
    from gguf_vl.store import pull as store
    from gguf_vl.store.place import unfinished
    from gguf_vl.store.progress import size

    if plan.is_installed:
        print(f"{plan.name} is already here, in {plan.folder}. `gguf-vl verify {plan.name}` hashes it again.")
        return
    if plan.note:
        print(plan.note, file=sys.stderr)
    for wanted in plan.files:
        n_bytes = size(wanted.remote.size) if wanted.remote.size else "of unknown size"
        print(f"{harmless(wanted.remote.name)}, {n_bytes}", file=sys.stderr)
    to_fetch = size(store.to_fetch(plan))
    print(f"from {harmless(plan.repository)}\nto   {plan.folder}, {to_fetch} to fetch", file=sys.stderr)
    try:
        with progress("Fetching") as told:
            local = store.pull(plan, told)
    except KeyboardInterrupt:
        here = sum(each.n_bytes for each in unfinished() if each.folder == plan.staging)
        print(f"{size(here)} of {plan.name} are here: the same command goes on with them.", file=sys.stderr)
        raise
    print(f"{local.name} is installed and verified. Try: gguf-vl ask -m {local.name} PICTURE QUESTION")


def _choose(question: str, choices: Sequence[str]) -> str:
    """Ask the person; where nobody can answer, say how to be exact."""
    from gguf_vl.errors import UsageError

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        names = ", ".join(map(harmless, choices))
        raise UsageError(f"{question}: {names}.", "Say which: hf:owner/repo:QUANT, --mmproj QUANT.")
    print(f"{question}:", file=sys.stderr)
    for place, choice in enumerate(choices, 1):
        print(f"  {place}  {harmless(choice)}", file=sys.stderr)
    while True:
        number: int = typer.prompt("Which", type=int, err=True)
        if 1 <= number <= len(choices):
            return choices[number - 1]
